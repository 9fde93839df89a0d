//! AF_XDP sockets of mirror ports: where a packet goes that is taken away.
//!
//! **Invariant**: only `xdp_mirror` asks. A mirror port carries copies, so nobody misses what is
//! taken; where no socket waits at the packet's own queue, the packet goes on.

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::programs::XdpContext;
use fastnetmon_common::abi::queue_key;

use crate::maps::{QUEUES, SOCKETS};

/// The socket that waits at the queue this packet came by.
#[inline(always)]
pub fn of(ctx: &XdpContext) -> Option<u32> {
    // SAFETY: the context is the kernel's and lives as long as the program runs.
    let (port, queue) = unsafe { ((*ctx.ctx).ingress_ifindex, (*ctx.ctx).rx_queue_index) };
    // SAFETY: entries are written whole, and one that goes away meanwhile is still memory.
    let index = *unsafe { QUEUES.get(&queue_key(port, queue)) }?;
    // One bound to another queue would drop the packet.
    SOCKETS.get(index).filter(|&bound| bound == queue).map(|_| index)
}

/// Hands the packet to the socket; when it went away meanwhile, the packet goes on.
#[inline(always)]
pub fn redirect(index: u32) -> u32 {
    // The low bits of the flags are the verdict when there is no socket.
    SOCKETS.redirect(index, XDP_PASS as u64).unwrap_or(XDP_PASS)
}
