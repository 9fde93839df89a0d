//! In place of `af_xdp.rs` in an agent that is built without it.
//!
//! **Invariant**: says so, so that nobody wonders where the sockets are.

use std::time::Duration;

use crate::capture::{Bound, CaptureError, Engine, Intake, Polled};
use crate::kernel::{Port, Sockets};
use crate::model::Moment;

/// There is none.
#[derive(Debug)]
pub enum AfXdpEngine {}

impl AfXdpEngine {
    /// Makes nothing, and tells for each port why.
    pub fn open(_: Sockets, ports: &[Port], _: fn() -> Moment) -> (Option<Self>, Vec<Bound>) {
        let bound = ports.iter().map(|port| Bound {
            interface: port.interface.clone(),
            refused: Some("this agent was built without the feature `af-xdp`".to_owned()),
            ..Bound::default()
        });
        (None, bound.collect())
    }
}

impl Engine for AfXdpEngine {
    const NAME: &'static str = "af_xdp";

    fn poll(&mut self, _: Duration, _: &mut impl Intake) -> Result<Polled, CaptureError> {
        match *self {}
    }
}
