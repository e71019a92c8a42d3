//! Pieces of the conversation, beside a runtime: the line blocks, so each piece has a thread for as long as it lasts.

use super::PATIENCE;
use super::line::{Line, LineError};
use super::words::{Answer, PROTOCOL, Said};

/// Whether whoever asks in this version of the protocol can be answered.
pub(super) fn understood(protocol: u32) -> Result<(), String> {
    if protocol == PROTOCOL {
        return Ok(());
    }
    Err(format!(
        "this process hands over by version {PROTOCOL} of the protocol, and was asked by version {protocol}: restart it \
         instead"
    ))
}

/// Says something that ends the talk. Whoever does not hear it is gone.
pub(super) async fn say(mut line: Line, answer: Answer) {
    let _ = blocking(move || line.say(&answer, PATIENCE).map_err(|error| error.to_string())).await;
}

/// A piece of the talk: what was heard at its end, and the line. Without one the other side is gone.
pub(super) async fn talked(
    mut line: Line,
    talk: impl FnOnce(&mut Line) -> Result<Said, LineError> + Send + 'static,
) -> (Option<Line>, Result<Said, String>) {
    let talked = tokio::task::spawn_blocking(move || {
        let said = talk(&mut line).map_err(|error| error.to_string());
        (line, said)
    });
    match talked.await {
        Ok((line, said)) => (Some(line), said),
        Err(_) => (None, Err("this process is about to stop".to_owned())),
    }
}

/// The line, if the other side said what was to be said.
pub(super) fn expected(
    (line, said): (Option<Line>, Result<Said, String>),
    is_it: impl Fn(&Said) -> bool,
) -> Result<Line, (Option<Line>, String)> {
    let heard = said.and_then(|said| match is_it(&said) {
        true => Ok(()),
        false => Err("the new process says what does not belong here".to_owned()),
    });
    match (line, heard) {
        (Some(line), Ok(())) => Ok(line),
        (line, heard) => Err((line, heard.err().unwrap_or_default())),
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err("this process is about to stop".to_owned()))
}
