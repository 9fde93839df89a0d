//! scaffolding
pub mod model;
pub mod networks;
pub mod tables;
