//! What the supervisor of the process is told: that it serves, reloads, stops, lives, or is another one from here on.
//!
//! The protocol is systemd's (sd_notify(3)): datagrams to the socket that `NOTIFY_SOCKET` names; without it nobody is
//! told anything. Whoever supervises waits for nothing that it has not asked for, so what cannot be told is logged
//! and no more.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, timeout};

use crate::command::Command;

/// How long the scorer may take to show that it lives. It ticks every 100 ms.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connections are accepted, and the configuration is the one that runs.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] says that it is done.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the supervisor is not told of the reload"),
    }
}

/// Nothing more is accepted, and what has begun is finished.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The process to look after is this one.
pub fn main_process(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// Says for as long as the scorer answers that the process lives, where the supervisor wants to know.
pub async fn keep_alive(scorer: mpsc::Sender<Command>) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut look = interval((limit / 3).max(Duration::from_millis(10)));
    loop {
        look.tick().await;
        let (to, answer) = oneshot::channel();
        let lives = async { scorer.send(Command::Answer(to)).await.is_ok() && answer.await.is_ok() };
        match timeout(PATIENCE, lives).await {
            Ok(true) => tell(&[NotifyState::Watchdog]),
            Ok(false) | Err(_) => {
                tracing::error!("the scorer does not answer: the supervisor is not told that all is well")
            }
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the supervisor cannot be told how the process is");
    }
}
