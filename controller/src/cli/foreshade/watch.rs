//! Going on while something is watched: until there is news, and over a controller that is away for a while.
//!
//! Whoever watches has asked to be told, so a restart of the controller is not his concern as long as it comes back. A
//! controller that has never answered is: the address may be wrong.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::ask::AskError;

/// What is watched is drawn anew after so long even if nothing happens: ages grow.
const REDRAW: Duration = Duration::from_secs(2);

/// Events that come together are one reason to draw.
const TOGETHER: Duration = Duration::from_millis(100);

/// Between two looks at a pair that is waited for.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// How long a controller may be away while it is watched: a restart, or an election after the longest lease.
const AWAY_MAX: Duration = Duration::from_secs(90);

/// How long a controller that was there has been away. Whoever watches outlives its restart, and its successor's election.
#[derive(Default)]
pub(super) struct Absence {
    /// It has answered before: its address is right.
    was_there: bool,
    since: Option<Instant>,
}

impl Absence {
    /// The answer; nothing where it has to be asked for again, which is after a pause.
    pub(super) async fn bear<T>(
        &mut self,
        asked: Result<T, AskError>,
        watches: bool,
        until: Option<Instant>,
    ) -> Result<Option<T>, AskError> {
        let error = match asked {
            Ok(answer) => {
                (self.was_there, self.since) = (true, None);
                return Ok(Some(answer));
            }
            Err(error) => error,
        };
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let is_borne = watches && self.was_there && error.passes();
        if !is_borne || now.duration_since(since) >= AWAY_MAX || until.is_some_and(|until| now >= until) {
            return Err(error);
        }
        sleep(LOOK).await;
        Ok(None)
    }
}

/// Something to wait for between two drawings. When the stream has ended, only time is left.
pub(super) struct News(Option<BodyDataStream>);

impl News {
    /// Out of a stream of events.
    pub(super) fn of(body: Body) -> Self {
        Self(Some(body.into_data_stream()))
    }

    pub(super) async fn wait(&mut self) {
        let until = Instant::now() + REDRAW;
        let Some(stream) = &mut self.0 else {
            return sleep(REDRAW).await;
        };
        match timeout_at(until, stream.next()).await {
            Ok(Some(Ok(_))) => {
                while timeout(TOGETHER, stream.next())
                    .await
                    .is_ok_and(|more| more.is_some())
                {}
            }
            Ok(_) => {
                self.0 = None;
                sleep(LOOK).await;
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Result<(), AskError> {
        Err(AskError::Refused {
            status: 503,
            detail: "another controller acts".to_owned(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn who_watches_outlives_a_restart_and_no_more() {
        let mut absence = Absence::default();
        // It has never answered.
        assert!(absence.bear(away(), true, None).await.is_err());
        for _ in 0..2 {
            assert_eq!(absence.bear(Ok(7), true, None).await.unwrap(), Some(7));
            let begun = Instant::now();
            while absence.bear(away(), true, None).await.is_ok() {
                assert!(begun.elapsed() < AWAY_MAX * 2);
            }
            assert!(begun.elapsed() >= AWAY_MAX);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_else_is_borne() {
        let mut absence = Absence::default();
        absence.bear(Ok(()), true, None).await.unwrap();
        assert!(absence.bear(away(), false, None).await.is_err());
        assert!(absence.bear(away(), true, Some(Instant::now())).await.is_err());
        let refused: Result<(), _> = Err(AskError::Refused {
            status: 404,
            detail: "there is no pair shop/a".to_owned(),
        });
        assert!(absence.bear(refused, true, None).await.is_err());
    }
}
