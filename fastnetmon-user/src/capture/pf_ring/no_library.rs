//! In place of `library.rs` in an agent that cannot open libraries.
//!
//! **Invariant**: says so, and what to do.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::capture::pf_ring::image::Caught;
use crate::capture::pf_ring::module::Loaded;

/// There is none.
#[derive(Clone, Debug)]
pub(super) enum Access {}

/// There is none.
#[derive(Debug)]
pub(super) enum LibraryRing {}

/// What a ring would have to show.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "nobody reads it here")]
pub(super) struct Wanted<'a> {
    pub(super) device: &'a str,
    pub(super) promiscuous: bool,
    pub(super) leaving: bool,
    pub(super) cluster: Option<u32>,
    pub(super) loaded: Option<&'a Loaded>,
}

impl Access {
    pub(super) fn find(_: &Path) -> Result<Self, String> {
        Err("this agent was built without the feature `pf-ring-library`: set `access = \"socket\"` \
             in `[capture.pf_ring]`, or install the dynamic build"
            .to_owned())
    }

    pub(super) fn name(&self) -> String {
        match *self {}
    }

    pub(super) fn remark(&self) -> Option<String> {
        match *self {}
    }
}

impl LibraryRing {
    pub(super) fn open(access: &Access, _: Wanted<'_>) -> Result<Self, String> {
        match *access {}
    }

    pub(super) fn activate(&mut self) -> Result<(), String> {
        match *self {}
    }

    pub(super) fn drain(&mut self, _: impl FnMut(Caught<'_>)) -> Result<u64, String> {
        match *self {}
    }

    pub(super) fn new_losses(&mut self) -> u64 {
        match *self {}
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_built_in_says_so_with_the_way_out() {
        let Err(error) = Access::find(Path::new(""));
        assert_eq!(
            error,
            "this agent was built without the feature `pf-ring-library`: set `access = \"socket\"` in \
             `[capture.pf_ring]`, or install the dynamic build"
        );
    }
}
