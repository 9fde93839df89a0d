//! Does somebody keep the system's clock right?
//!
//! **Invariant**: asks and changes nothing.
#![expect(unsafe_code, reason = "adjtimex(2) has no safe form")]

/// Is the clock kept by NTP or the like? `None` where the system does not say.
pub fn is_clock_kept() -> Option<bool> {
    // SAFETY: all zero is a valid `timex`, and asks for no change.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is ours and outlives the call; without modes nothing is changed.
    let kept = unsafe { libc::adjtimex(&raw mut state) };
    // TIME_ERROR is the answer as well when it is not synchronised.
    (kept >= 0).then_some(state.status & libc::STA_UNSYNC == 0)
}
