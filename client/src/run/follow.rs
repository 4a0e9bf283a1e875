//! Commands that follow what happens, each event on a line of its own at once.

use std::time::Duration;

use pipo_protocol::v2::messages::{
    EventKind, EventsFollow, LogFollow, LogKind, LogLevel, MetricsFollow, SessionTrace,
};
use pipo_protocol::v2::{Request, Word};

use super::{Failure, Runner, sessions};
use crate::grammar::Values;
use crate::limits::{INTERVAL_MAX, INTERVAL_MIN, SAMPLE_INTERVAL_DEFAULT};
use crate::link::{CREDIT_BYTES, Link};
use crate::output::shown;

impl Runner {
    async fn follow(&mut self, link: &Link, request: Request, values: &Values) -> Result<(), Failure> {
        let mut left: Option<u32> = values.number("count");
        let mut follow = link.follow(request).await?;
        while left != Some(0) {
            let Some(event) = follow.next().await? else { return Ok(()) };
            if let Some(shown) = shown(&event) {
                self.printer.happening(&shown).await?;
                left = left.map(|left| left - 1);
            }
        }
        Ok(())
    }

    pub(super) async fn events(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let request = Request::Events(EventsFollow {
            credit: CREDIT_BYTES,
            from: values.number("from"),
            kinds: values.texts("kind").filter_map(EventKind::from_name).collect(),
            filter: sessions::filter(values),
        });
        self.follow(link, request, values).await
    }

    pub(super) async fn log_follow(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let request = Request::LogFollow(LogFollow {
            credit: CREDIT_BYTES,
            from: values.number("from"),
            kinds: values.texts("kind").filter_map(LogKind::from_name).collect(),
            level: values.text("level").and_then(LogLevel::from_name),
            user: values.user("user"),
        });
        self.follow(link, request, values).await
    }

    pub(super) async fn metrics_follow(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let interval = interval(values, SAMPLE_INTERVAL_DEFAULT)?;
        let request = Request::MetricsFollow(MetricsFollow {
            credit: CREDIT_BYTES,
            prefix: values.text("PREFIX").and_then(Word::new),
            interval_ms: u32::try_from(interval.as_millis()).unwrap_or(u32::MAX),
        });
        self.follow(link, request, values).await
    }

    pub(super) async fn session_trace(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let id = sessions::session(values)?;
        let request = Request::SessionTrace(SessionTrace { credit: CREDIT_BYTES, id });
        self.follow(link, request, values).await
    }
}

/// The interval that was asked for, within its bounds.
pub(super) fn interval(values: &Values, default: Duration) -> Result<Duration, Failure> {
    let interval = values.span("interval").unwrap_or(default);
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        Ok(interval)
    } else {
        Err(Failure::usage("--interval: 100ms to 1h are allowed"))
    }
}
