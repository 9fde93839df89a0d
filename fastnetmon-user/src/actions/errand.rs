//! What actions are handed: a verdict, with what it takes to write it down.
//!
//! **Invariant**: an errand's event has the same name whoever is sent, however often, before and
//! after a restart.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Moment, Prefix, Wall};
use crate::verdicts::{BanId, Verdict};

/// What happened.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// A host is banned.
    Ban,
    /// The packets of its attack are there.
    AttackDetails,
    /// It is let go.
    Unban,
    /// A network is under attack.
    Alert,
    /// It is calm again.
    Calm,
}

impl Occasion {
    /// The word for it, as scripts are given it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::AttackDetails => "attack_details",
            Self::Unban => "unban",
            Self::Alert => "alert",
            Self::Calm => "calm",
        }
    }
}

impl From<&Verdict> for Occasion {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Ban(_) => Self::Ban,
            Verdict::Details(..) => Self::AttackDetails,
            Verdict::Unban(..) => Self::Unban,
            Verdict::Alert(_) => Self::Alert,
            Verdict::Calm(_) => Self::Calm,
        }
    }
}

/// One event, for ever: `1795741234567890123-ban`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId {
    /// Of which ban or alert.
    pub ban: BanId,
    /// What about it.
    pub occasion: Occasion,
}

impl From<&Verdict> for EventId {
    fn from(verdict: &Verdict) -> Self {
        let ban = match verdict {
            Verdict::Ban(ban) | Verdict::Details(ban, _) | Verdict::Unban(ban, _) => ban.id,
            Verdict::Alert(alert) | Verdict::Calm(alert) => alert.id,
        };
        Self { ban, occasion: verdict.into() }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ban.0, self.occasion.name())
    }
}

impl From<EventId> for String {
    fn from(event: EventId) -> Self {
        event.to_string()
    }
}

impl TryFrom<String> for EventId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let occasions = [
            Occasion::Ban,
            Occasion::AttackDetails,
            Occasion::Unban,
            Occasion::Alert,
            Occasion::Calm,
        ];
        text.split_once('-')
            .and_then(|(ban, name)| {
                let occasion = occasions.into_iter().find(|one| one.name() == name)?;
                Some(Self { ban: BanId(u64::from_str(ban).ok()?), occasion })
            })
            .ok_or_else(|| format!("`{text}` names no event"))
    }
}

/// A verdict on its way to the actions.
#[derive(Clone, Debug)]
pub struct Errand {
    /// What was decided.
    pub verdict: Verdict,
    /// Both clocks when it was decided.
    pub wall: Wall,
}

impl Errand {
    /// Which event it is about.
    pub fn event(&self) -> EventId {
        (&self.verdict).into()
    }

    /// Whom it is about.
    pub fn about(&self) -> Prefix {
        self.verdict.about()
    }

    /// When it was decided, as time since 1970.
    pub const fn unix(&self) -> Duration {
        self.wall.unix
    }

    /// Since when the ban or alert stands, as time since 1970.
    pub const fn since(&self) -> Duration {
        self.wall.unix_at(self.began())
    }

    const fn began(&self) -> Moment {
        match &self.verdict {
            Verdict::Ban(ban) | Verdict::Details(ban, _) | Verdict::Unban(ban, _) => ban.since,
            Verdict::Alert(alert) | Verdict::Calm(alert) => alert.since,
        }
    }

    /// Whom it is about, as people write it: an address, or a network.
    pub fn named(&self) -> String {
        named(self.about())
    }
}

fn named(about: Prefix) -> String {
    let is_host = match about.address() {
        IpAddr::V4(_) => about.len() == 32,
        IpAddr::V6(_) => about.len() == 128,
    };
    if is_host { about.address().to_string() } else { about.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_named_for_ever() {
        let event = EventId { ban: BanId(1_795_741_234_567), occasion: Occasion::AttackDetails };
        assert_eq!(event.to_string(), "1795741234567-attack_details");
        assert_eq!(EventId::try_from(event.to_string()), Ok(event));
        for text in ["", "7", "7-", "7-drop", "x-ban", "-1-ban"] {
            let expected = format!("`{text}` names no event");
            assert_eq!(EventId::try_from(text.to_owned()), Err(expected));
        }
    }

    #[test]
    fn a_host_is_named_without_its_length() {
        for (prefix, name) in
            [("192.0.2.7/32", "192.0.2.7"), ("192.0.2.0/24", "192.0.2.0/24"), ("::7/128", "::7")]
        {
            assert_eq!(named(Prefix::parse_masked(prefix).unwrap().0), name);
        }
    }
}
