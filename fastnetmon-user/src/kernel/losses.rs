//! Counters of a card's own that speak of frames it lost (`ethtool -S`).
//!
//! Each driver has names of its own for them, so they are known by the words in their names.
//!
//! **Invariant**: a driver that has more counters than there is room for is not asked.

use std::collections::BTreeMap;
use std::io;

use crate::kernel::ports::{driver_counters, ethtool_words};

/// Counters of a driver, at most, and the room there is: a driver that grows some between two
/// questions does not write beyond it.
const MOST: usize = 16_384;
const ROOM: usize = 2 * MOST;

/// Bytes of a name, and words of it.
const NAME: usize = 32;

const GET_STRINGS: u32 = 0x1b;
const GET_STATISTICS: u32 = 0x1d;
/// `ETH_SS_STATS` (linux/ethtool.h).
const STATISTICS: u32 = 1;

/// The card's counters of frames that were received and lost, by the driver's names for them. Empty
/// where the driver has none.
pub fn card_losses(interface: &str) -> BTreeMap<String, u64> {
    let there = driver_counters(interface).unwrap_or(0);
    if there == 0 || there > MOST {
        return BTreeMap::new();
    }
    read(interface).unwrap_or_default()
}

fn read(interface: &str) -> io::Result<BTreeMap<String, u64>> {
    // A command, a set, a count; then the names.
    let mut names = vec![0; 3 + ROOM * NAME / 4];
    if let [command, set, ..] = names.as_mut_slice() {
        (*command, *set) = (GET_STRINGS, STATISTICS);
    }
    ethtool_words(interface, &mut names)?;
    // A command, a count; then values of two words each.
    let mut values = vec![0; 2 + ROOM * 2];
    if let [command, ..] = values.as_mut_slice() {
        *command = GET_STATISTICS;
    }
    ethtool_words(interface, &mut values)?;
    Ok(named(&names, &values))
}

fn named(names: &[u32], values: &[u32]) -> BTreeMap<String, u64> {
    let count = names.get(2).copied().unwrap_or(0).min(values.get(1).copied().unwrap_or(0));
    let count = usize::try_from(count).unwrap_or(0);
    let names = names.get(3..).unwrap_or_default().as_chunks::<{ NAME / 4 }>().0;
    let values = values.get(2..).unwrap_or_default().as_chunks::<2>().0;
    let pairs = names.iter().zip(values).take(count);
    pairs
        .map(|(name, &[first, second])| {
            let bytes: Vec<u8> = name.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            let name = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
            let words = [first, second].map(u32::to_ne_bytes);
            let value = words.as_flattened().first_chunk();
            (name, value.map_or(0, |&bytes| u64::from_ne_bytes(bytes)))
        })
        .filter(|(name, _)| tells_loss(name))
        .collect()
}

/// Does this name speak of frames that came and were lost? What XDP drops is dropped on purpose.
fn tells_loss(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let lost = ["drop", "miss", "discard", "no_buf", "nobuf", "out_of_buffer", "no_dma", "overrun"];
    let sent = name.starts_with("tx") || name.contains("_tx") || name.contains("tx_");
    !sent && !name.contains("xdp") && lost.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_known_by_their_names() {
        for (name, expected) in [
            ("rx_missed_errors", true),
            ("rx_out_of_buffer", true),
            ("rx_no_dma_resources", true),
            ("rx3_discards", true),
            ("rx_queue_0_drops", true),
            ("rx_queue_0_xdp_drops", false),
            ("tx_dropped", false),
            ("port.tx_dropped_link_down", false),
            ("rx_packets", false),
        ] {
            assert_eq!(tells_loss(name), expected, "{name}");
        }
    }

    #[test]
    fn names_and_values_are_paired_and_no_more_than_there_are() {
        let mut names = vec![GET_STRINGS, STATISTICS, 2];
        for name in ["rx_packets", "rx_dropped", "rx_missed"] {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(NAME, 0);
            names.extend(bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_ne_bytes(word)));
        }
        let mut values = vec![GET_STATISTICS, 3];
        for value in [1_000_u64, 1 << 33, 7] {
            let bytes = value.to_ne_bytes();
            values.extend(bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_ne_bytes(word)));
        }
        let losses = named(&names, &values);
        assert_eq!(losses, BTreeMap::from([("rx_dropped".to_owned(), 1 << 33)]));
        assert!(named(&names[..2], &values).is_empty() && named(&names, &[]).is_empty());
    }

    #[test]
    fn an_interface_without_such_counters_has_none() {
        assert!(card_losses("lo").is_empty() && card_losses("nosuch0").is_empty());
    }
}
