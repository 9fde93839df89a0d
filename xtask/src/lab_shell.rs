//! `cargo xtask lab`: the lab of the demo with the agent in it, left standing to work in.
//!
//! **Invariant**: it stands until Ctrl-C, and is removed then together with whatever runs in it.

use std::{
    io::BufRead as _,
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

use xtask::{
    lab::{self, Lab},
    traffic::Pace,
};

use crate::{
    build,
    scene::{self, Scene, StopOnDrop},
};

/// Long enough to look around.
const BAN_SECS: u32 = 60;

/// How long an attack goes on.
const ATTACK_SECS: u64 = 10;

/// Makes the lab, says how to use it, and keeps it until Ctrl-C.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    println!("lab: building the agent");
    let agent = build::agent(root)?;
    Lab::sweep();
    let interrupted = scene::interrupted()?;
    let mut scene = Scene::set(&agent, "lab", BAN_SECS)?;
    explain(&scene, &agent)?;

    let lab = scene.lab();
    let (mut everyday, mut answers, mut attacker) =
        (lab.sender_outside()?, lab.sender_inside()?, lab.sender_outside()?);
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopOnDrop(&ends);
        scope
            .spawn(|| everyday.send_until(&scene::inwards(), Pace::Pps(scene::INWARDS_PPS), &ends));
        scope.spawn(|| {
            answers.send_until(&scene::outwards(), Pace::Pps(scene::OUTWARDS_PPS), &ends)
        });
        let keys = enter_keys();
        let attack = scene::attack();
        while !interrupted.load(Ordering::Relaxed) {
            scene.check_alive()?;
            match keys.recv_timeout(Duration::from_millis(200)) {
                Ok(()) => {
                    println!("lab: attacking {} for {ATTACK_SECS} s", scene::VICTIM);
                    for _second in 0..ATTACK_SECS {
                        if !interrupted.load(Ordering::Relaxed) {
                            let pps = scene::ATTACK_PPS;
                            attacker.send(&attack, u64::from(pps), Pace::Pps(pps))?;
                        }
                    }
                    println!("lab: the attack is over");
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Standard input has ended; Ctrl-C still works.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(Duration::from_millis(200)),
            }
        }
        anyhow::Ok(())
    })
}

fn explain(scene: &Scene, agent: &Path) -> anyhow::Result<()> {
    let lab = scene.lab();
    let (inside, outside) = (lab.inside_name(), lab.outside_name());
    let socket = scene.socket();
    println!(
        "\nlab: it stands. The agent listens inside, on `{}`, with this configuration:\n\n{}\n\
         Everyday traffic of {} packets a second comes in. From another terminal:\n  \
         {} top --socket {}\n  \
         ip netns exec {inside} bash         # the host of the agent\n  \
         ip netns exec {outside} bash        # the world\n  \
         ip netns exec {outside} ping {}   # a guarded address that answers\n\
         The script's calls and the agent's log are beside the socket.\n\n\
         lab: Enter attacks {} for {ATTACK_SECS} s; Ctrl-C removes everything",
        lab::INSIDE_INTERFACE,
        scene.config()?,
        scene::INWARDS_PPS,
        agent.display(),
        socket.display(),
        lab::GUARDED,
        scene::VICTIM,
    );
    Ok(())
}

/// One message for each line of standard input.
fn enter_keys() -> Receiver<()> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        for _line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(()).is_err() {
                break;
            }
        }
    });
    receiver
}
