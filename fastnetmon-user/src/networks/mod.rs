//! Whom we guard: networks as files and containers name them, as blocks and slots of the table.
//!
//! [`read`] gathers the prefixes, [`Plan`] lays them out, [`Residents`] keeps the IPv6 hosts that
//! have lines of their own, [`Territory`] writes both into the directories. [`Wards`] knows who
//! comes and goes while the agent runs.
//!
//! **Invariant**: plan and residents are pure: they say what to write. The territory alone writes,
//! so the kernel's tables and an engine's get the same slots.

mod files;
mod groups;
mod ignored;
mod names;
mod openvz;
mod plan;
mod prefixes;
mod residents;
mod settings;
mod territory;
mod wards;

pub use self::files::{Guarded, NetworksError, Remark, read, read_containers};
pub use self::groups::{Belonging, GroupId, Groups, Tenants};
pub use self::ignored::{
    IgnoreRule, IgnoreSettings, IgnoreWords, IgnoredProtocol, IgnoredSource, Ignores,
};
pub use self::names::Names;
pub use self::plan::{Capacity, Occupant, Plan, PlanError};
pub use self::prefixes::{Covered, PrefixSet};
pub use self::residents::{Moved, Residents};
pub use self::settings::Settings;
pub use self::territory::{Applied, Territory};
pub use self::wards::{QUIET, Wards};
