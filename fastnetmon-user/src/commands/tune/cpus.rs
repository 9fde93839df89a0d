//! Sets of CPUs in the two forms the kernel writes them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// CPUs by number.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct CpuSet(pub(super) BTreeSet<u32>);

/// No machine has more.
const MOST: u32 = 8192;

impl CpuSet {
    /// From `0-3,8`.
    pub(super) fn from_list(text: &str) -> Option<Self> {
        let mut cpus = BTreeSet::new();
        for part in text.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            if last >= MOST || first > last {
                return None;
            }
            cpus.extend(first..=last);
        }
        Some(Self(cpus))
    }

    /// From `00000001,0000000f`: words of 32 bits, the highest first.
    pub(super) fn from_mask(text: &str) -> Option<Self> {
        let mut cpus = BTreeSet::new();
        for (word, text) in (0_u32..).zip(text.trim().rsplit(',')) {
            let bits = u32::from_str_radix(text, 16).ok()?;
            cpus.extend((0..32).filter(|bit| bits & (1 << bit) != 0).map(|bit| word * 32 + bit));
        }
        Some(Self(cpus))
    }

    /// As `0-3,8`.
    pub(super) fn list(&self) -> String {
        let mut text = String::new();
        let mut rest = self.0.iter().copied().peekable();
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|&next| next == last + 1) {
                last = next;
            }
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _infallible = if first == last {
                write!(text, "{comma}{first}")
            } else {
                write!(text, "{comma}{first}-{last}")
            };
        }
        text
    }

    /// As `00000001,0000000f`.
    pub(super) fn mask(&self) -> String {
        let words = self.0.last().map_or(1, |last| last / 32 + 1);
        let word = |word: u32| {
            let bits = self.0.iter().filter(|&&cpu| cpu / 32 == word);
            format!("{:08x}", bits.fold(0_u32, |bits, cpu| bits | 1 << (cpu % 32)))
        };
        (0..words).rev().map(word).collect::<Vec<String>>().join(",")
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<T: IntoIterator<Item = u32>>(cpus: T) -> Self {
        Self(cpus.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &str, mask: &str) {
        let cpus = CpuSet::from_list(list).unwrap();
        assert_eq!(cpus.list(), list);
        assert_eq!(cpus.mask(), mask);
        assert_eq!(CpuSet::from_mask(mask), Some(cpus));
    }

    #[test]
    fn both_forms_say_the_same() {
        check("", "00000000");
        check("0", "00000001");
        check("0-3,8", "0000010f");
        check("31-32,64", "00000001,00000001,80000000");
        assert_eq!(CpuSet::from_mask("f\n"), CpuSet::from_list("0-3\n"));
    }

    #[test]
    fn what_is_no_set_is_none() {
        for text in ["x", "3-1", "1-", "0-99999999"] {
            assert_eq!(CpuSet::from_list(text), None, "{text}");
        }
        assert_eq!(CpuSet::from_mask("xyz"), None);
    }
}
