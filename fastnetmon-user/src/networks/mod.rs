//! Whom we guard: networks as files and containers name them, as blocks and slots of the table.
//!
//! [`read`] gathers the prefixes, [`Plan`] lays them out, [`Residents`] keeps the IPv6 hosts that
//! have lines of their own.
//!
//! **Invariant**: pure but for [`read`]: a plan is applied to a directory by whoever holds one, so
//! the kernel's tables and an engine's get the same slots.

mod files;
mod openvz;
mod plan;
mod prefixes;
mod residents;
mod settings;

pub use self::files::{Guarded, NetworksError, Remark, read};
pub use self::plan::{Capacity, Occupant, Plan, PlanError};
pub use self::prefixes::{Covered, PrefixSet};
pub use self::residents::{Moved, Residents};
pub use self::settings::Settings;
