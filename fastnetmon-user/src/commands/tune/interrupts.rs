//! Which interrupts are those of a port's queues: `/proc/interrupts` and the names drivers give.
//!
//! **Invariant**: an interrupt whose name says nothing of a queue is never one: it may be the link's
//! or the card's own.

use std::collections::BTreeMap;

/// Names by number.
pub(super) fn names(table: &str) -> BTreeMap<u32, String> {
    table.lines().filter_map(line).collect()
}

/// `  34:  0  12  PCI-MSIX-0000:00:05.0   1-edge   virtio0-input.0`.
fn line(line: &str) -> Option<(u32, String)> {
    let (number, rest) = line.split_once(':')?;
    let number = number.trim().parse().ok()?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let trigger = |word: &&str| word.ends_with("edge") || word.ends_with("level");
    // The name is what follows the trigger; before Linux 3 the chip's name had it in it.
    let name = match words.iter().rposition(trigger) {
        Some(at) => words.get(at + 1..)?.join(" "),
        None => (*words.last()?).to_owned(),
    };
    (!name.is_empty()).then_some((number, name))
}

/// Which of a port's queues this interrupt is for.
pub(super) fn queue(name: &str, interface: &str) -> Option<u32> {
    // `mlx5_comp3@pci:0000:3b:00.0` names the card behind the queue.
    let own = name.split('@').next().unwrap_or(name);
    if let Some(index) = own.strip_prefix(interface).and_then(|rest| rest.strip_prefix('-'))
        && let Ok(index) = index.parse()
    {
        // sfc: `eth0-3`.
        return Some(index);
    }
    let lower = own.to_ascii_lowercase();
    let lower = lower.replace(&interface.to_ascii_lowercase(), "port");
    if let Some(rest) = lower.split("(queue ").nth(1) {
        // cxgb4: `eth0 (queue 3)`.
        return rest.trim_end_matches(')').parse().ok();
    }
    if let Some(rest) = lower.split("-q").nth(1) {
        // Xen: `eth0-q3-rx`.
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if let Ok(index) = digits.parse() {
            return Some(index);
        }
    }
    let head = lower.trim_end_matches(|c: char| c.is_ascii_digit());
    let index = lower.get(head.len()..)?.parse().ok()?;
    let word = head.trim_end_matches(['-', '.', '_', ' ']);
    let is_queue =
        ["txrx", "tx-rx", "rxtx", "rx", "tx", "comp", "input", "output", "fp", "ntfy-blk"]
            .iter()
            .any(|mark| {
                word.strip_suffix(mark)
                    .is_some_and(|before| before.is_empty() || before.ends_with(['-', '_', '.']))
            });
    is_queue.then_some(index)
}

/// Is this interrupt the port's, going by its name? For ports that list none of their own.
pub(super) fn names_port(name: &str, interface: &str, address: Option<&str>) -> bool {
    let mut words = name.split(['-', ' ']);
    words.any(|word| word == interface)
        || address.is_some_and(|address| name.ends_with(&format!("@pci:{address}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, interface: &str, expected: Option<u32>) {
        assert_eq!(queue(name, interface), expected, "{name}");
    }

    #[test]
    fn queues_are_known_by_the_names_of_their_drivers() {
        check("eth0-TxRx-3", "eth0", Some(3));
        check("i40e-enp3s0f0-TxRx-11", "enp3s0f0", Some(11));
        check("ice-ens1f0-TxRx-0", "ens1f0", Some(0));
        check("eth0-Tx-Rx-7", "eth0", Some(7));
        check("eth0-rxtx-2", "eth0", Some(2));
        check("eth0-rx-1", "eth0", Some(1));
        check("eth0-tx-0", "eth0", Some(0));
        check("eth0-fp-4", "eth0", Some(4));
        check("eth0-5", "eth0", Some(5));
        check("eth0 (queue 6)", "eth0", Some(6));
        check("eth0-q3-rx", "eth0", Some(3));
        check("mlx5_comp12@pci:0000:3b:00.0", "ens3f0np0", Some(12));
        check("virtio0-input.0", "eth0", Some(0));
        check("virtio0-output.1", "eth0", Some(1));
        check("gve-ntfy-blk5@pci:0000:00:04.0", "ens4", Some(5));
    }

    #[test]
    fn what_is_no_queue_is_left_alone() {
        for name in [
            "eth0",
            "virtio0-config",
            "mlx5_async0@pci:0000:3b:00.0",
            "ena-mgmnt@pci:0000:00:05.0",
            "i40e-0000:03:00.0:misc",
            "eth0-event-4",
            "eth0-lsc",
            "nvme0q1",
        ] {
            check(name, "eth0", None);
        }
    }

    #[test]
    fn a_line_is_read_in_the_forms_of_all_kernels() {
        let table = "           CPU0       CPU1\n\
                     \x20 24:          1          0  IO-APIC   5-edge      ACPI:Ged\n\
                     \x2034:          0         12  PCI-MSIX-0000:00:05.0   1-edge      virtio0-input.0\n\
                     \x2040:     123      0   PCI-MSI-edge      eth0-TxRx-0\n\
                     \x2041:     123      0   IR-PCI-MSI 327680-edge      eth0 (queue 1)\n\
                     NMI:          0          0   Non-maskable interrupts\n";
        let names = names(table);
        let of = |irq: u32| names.get(&irq).map(String::as_str);
        assert_eq!(of(34), Some("virtio0-input.0"));
        assert_eq!(of(40), Some("eth0-TxRx-0"));
        assert_eq!(of(41), Some("eth0 (queue 1)"));
        assert_eq!(names.len(), 4);
    }
}
