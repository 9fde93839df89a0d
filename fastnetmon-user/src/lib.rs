//! scaffolding
pub mod actions;
pub mod capture;
pub mod counters;
pub mod kernel;
pub mod model;
pub mod networks;
pub mod rates;
pub mod tables;
pub mod verdicts;
