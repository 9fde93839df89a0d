//! What keeps an engine from seeing, and when it is looked at again.
//!
//! **Invariant**: whatever is wrong, it is tried again, at first soon and then ever less often.

use std::time::Duration;

use crate::capture::CaptureError;
use crate::kernel::Port;
use crate::model::Moment;

/// How long after a port went away it is looked for first, and at the longest.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is said of a port that shows nothing since it is not there.
pub(super) const AWAY: &str = "it is down or gone";

/// Why nothing comes, and when it is tried again.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) reason: String,
    again: Moment,
    pause: Duration,
}

impl Trouble {
    /// It begins now, and is looked at after the first pause.
    pub(super) fn new(now: Moment, reason: String) -> Self {
        Self::pausing(now, reason, PAUSE)
    }

    /// It begins now, and is looked at after this pause.
    pub(super) fn pausing(now: Moment, reason: String, pause: Duration) -> Self {
        Self { reason, again: now + pause, pause }
    }

    /// Another attempt failed, for this reason; where none was made before, it begins now.
    pub(super) fn after(before: Option<&Self>, now: Moment, reason: String) -> Self {
        let pause = before.map_or(PAUSE, |before| longer(before.pause));
        Self::pausing(now, reason, pause)
    }

    /// Is it to be looked at now?
    pub(super) fn is_due(&self, now: Moment) -> bool {
        now >= self.again
    }

    /// It is looked at now, and the next time after a longer pause.
    pub(super) fn put_off(&mut self, now: Moment) {
        self.pause = longer(self.pause);
        self.again = now + self.pause;
    }
}

/// A pause after which it still was as it was.
pub(super) fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

/// The first of these ports that has one, as the engine of this name tells it.
pub(super) fn told<'ports>(
    engine: &'static str,
    mut ports: impl Iterator<Item = (&'ports Port, Option<&'ports Trouble>)>,
) -> Option<CaptureError> {
    ports.find_map(|(port, trouble)| {
        let reason = format!("interface `{}`: {}", port.interface, trouble?.reason);
        Some(CaptureError::Broken { engine, reason })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Mode, Role};

    fn at(millis: u64) -> Moment {
        Moment::after_boot(Duration::from_millis(millis))
    }

    #[test]
    fn pauses_grow_until_they_are_long_enough() {
        let mut trouble = Trouble::new(at(0), "it is down".to_owned());
        let mut now = at(0);
        for pause in [100, 200, 400, 800, 1600, 2000, 2000] {
            let next = now + Duration::from_millis(pause);
            assert!(!trouble.is_due(next - Duration::from_millis(1)), "{pause}");
            assert!(trouble.is_due(next), "{pause}");
            trouble.put_off(next);
            now = next;
        }
        let again = Trouble::after(Some(&trouble), now, "it is gone".to_owned());
        assert!(!again.is_due(now + Duration::from_millis(1999)));
        assert!(Trouble::after(None, now, String::new()).is_due(now + PAUSE));
        let patient = Trouble::pausing(now, String::new(), Duration::from_secs(1));
        assert!(!patient.is_due(now + Duration::from_millis(999)));
    }

    #[test]
    fn the_first_port_in_trouble_is_told() {
        let port = |name: &str| Port {
            interface: name.to_owned(),
            role: Role::Mirror,
            mode: Mode::Native,
        };
        let (well, ill) = (port("eth0"), port("eth1"));
        let trouble = Trouble::new(at(0), "it is down".to_owned());
        let error = told("pcap", [(&well, None), (&ill, Some(&trouble))].into_iter()).unwrap();
        assert!(error.to_string().contains("interface `eth1`: it is down"), "{error}");
        assert!(told("pcap", [(&well, None)].into_iter()).is_none());
    }
}
