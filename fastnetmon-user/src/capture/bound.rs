//! What came of AF_XDP on a port, and how evidence reaches us.
//!
//! **Invariant**: pure; what was bound is told, never guessed.

/// One port.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bound {
    /// Its interface.
    pub interface: String,
    /// Receive queues it has.
    pub queues: u32,
    /// Queues whose socket the card writes to by itself.
    pub zero_copy: u32,
    /// Queues whose socket the kernel copies to.
    pub copy: u32,
    /// Why they are not zero-copy.
    pub copied_because: Option<String>,
    /// Why the last of the others has none.
    pub refused: Option<String>,
}

impl Bound {
    /// `copy`, `zero-copy`, or both with their numbers.
    pub fn way(&self) -> String {
        match (self.zero_copy, self.copy) {
            (0, 0) => "none".to_owned(),
            (0, _) => "copy".to_owned(),
            (_, 0) => "zero-copy".to_owned(),
            (zero_copy, copy) => format!("{zero_copy} zero-copy, {copy} copy"),
        }
    }
}

/// How packets of banned hosts reach us, in a few words: `ring`, or `af_xdp (copy, 2 queues)`.
pub fn evidence_by(ports: &[Bound]) -> String {
    let mut all = Bound::default();
    for port in ports {
        all.queues += port.queues;
        all.zero_copy += port.zero_copy;
        all.copy += port.copy;
    }
    let with = all.zero_copy + all.copy;
    let plural = |queues| if queues == 1 { "queue" } else { "queues" };
    match (with, all.queues) {
        (0, _) => RING.to_owned(),
        (with, queues) if with == queues => {
            format!("af_xdp ({}, {queues} {})", all.way(), plural(queues))
        }
        (with, queues) => format!("af_xdp ({}, {with} of {queues} queues), {RING}", all.way()),
    }
}

/// Copies through the ring buffer.
pub const RING: &str = "ring";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_says_how_many_queues_have_which_socket() {
        let port = |queues, zero_copy, copy| Bound { queues, zero_copy, copy, ..Bound::default() };
        for (ports, expected) in [
            (vec![], "ring"),
            (vec![port(4, 0, 0)], "ring"),
            (vec![port(1, 0, 1)], "af_xdp (copy, 1 queue)"),
            (vec![port(2, 0, 2), port(2, 0, 2)], "af_xdp (copy, 4 queues)"),
            (vec![port(8, 8, 0)], "af_xdp (zero-copy, 8 queues)"),
            (vec![port(8, 8, 0), port(1, 0, 1)], "af_xdp (8 zero-copy, 1 copy, 9 queues)"),
            (vec![port(4, 0, 3)], "af_xdp (copy, 3 of 4 queues), ring"),
        ] {
            assert_eq!(evidence_by(&ports), expected);
        }
    }
}
