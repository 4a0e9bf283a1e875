//! Sessions: listing, showing, ending them.

use pipo_protocol::v2::messages::{
    SessionFilter, SessionKill, SessionListRequest, SessionShow, SessionSort, Stage,
};
use pipo_protocol::v2::{Reply, Request, Text};

use super::{Consent, Failure, Runner};
use crate::grammar::{FILTERS, Values, session_id};
use crate::link::{CREDIT_BYTES, Link};
use crate::output::Record;

impl Runner {
    pub(super) async fn session_list(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let request = Request::SessionList(SessionListRequest {
            credit: CREDIT_BYTES,
            filter: filter(values),
            sort: values.text("sort").and_then(SessionSort::from_name),
            descending: values.has("descending").then_some(true),
            limit: values.number("limit"),
        });
        let rows = |reply| if let Reply::SessionList(part) = reply { Some(part.rows) } else { None };
        self.list(link, request, rows, Record::fields).await
    }

    pub(super) async fn session_show(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let id = session(values)?;
        let Reply::SessionShow(details) = link.request(Request::SessionShow(SessionShow { id })).await?
        else {
            return Err(Failure::OtherAnswer);
        };
        Ok(self.printer.record(&details.fields()).await?)
    }

    /// Whoever ends sessions by a filter is asked first, and told how many they are.
    pub(super) async fn session_kill(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let ids: Vec<_> = values.texts("SESSION").filter_map(session_id).collect();
        let filter = filter(values).or_else(|| values.has("all").then_some(SessionFilter::ALL));
        if ids.is_empty() && filter.is_none() {
            return Err(Failure::usage("session kill: SESSION, a filter or --all is missing"));
        }
        if values.has("all") && filter != Some(SessionFilter::ALL) {
            return Err(Failure::usage("session kill: --all and a filter exclude each other"));
        }
        let by_filter = filter.is_some();
        let mut kill = SessionKill { ids, filter, dry_run: Some(true) };
        if values.has("dry-run") || (by_filter && self.yes == Consent::ToBeAsked) {
            let Reply::SessionKill(counted) = link.request(Request::SessionKill(kill.clone())).await? else {
                return Err(Failure::OtherAnswer);
            };
            let count = counted.sessions_count;
            if values.has("dry-run") {
                let sentence = format!("{} would end.", sessions(count));
                return Ok(self.printer.done(&sentence, &counted.fields()).await?);
            }
            if count > 0 {
                self.input.agrees(&format!("End {}?", sessions(count))).await?;
            }
        }
        kill.dry_run = None;
        let Reply::SessionKill(killed) = link.request(Request::SessionKill(kill)).await? else {
            return Err(Failure::OtherAnswer);
        };
        let sentence = format!("{} ended.", sessions(killed.sessions_count));
        Ok(self.printer.done(&sentence, &killed.fields()).await?)
    }
}

/// The session's number.
pub(super) fn session(values: &Values) -> Result<u64, Failure> {
    values.text("SESSION").and_then(session_id).ok_or_else(|| Failure::usage("SESSION is missing"))
}

/// `1 session`, `2 sessions`.
pub(super) fn sessions(count: u64) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}

/// What the options of filters say; none where none was given.
pub(super) fn filter(values: &Values) -> Option<SessionFilter> {
    if !FILTERS.iter().any(|name| values.has(name)) {
        return None;
    }
    let source = values.network("source");
    Some(SessionFilter {
        user: values.user("user"),
        source: source.map(|(address, _)| address),
        source_prefix: source.and_then(|(_, bits)| bits),
        destination: values.text("destination").map(Text::cut),
        destination_port: values.number("port"),
        age_ms_min: values.span_ms("age-min"),
        age_ms_max: values.span_ms("age-max"),
        bytes_min: values.bytes("bytes-min"),
        bytes_max: values.bytes("bytes-max"),
        stage: values.text("stage").and_then(Stage::from_name),
        idle_ms_min: values.span_ms("idle-min"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::parse_line;

    #[test]
    fn every_option_of_a_filter_reaches_the_filter() {
        let line = "session list --user ada --source 192.0.2.0/24 --destination .example.com --port 443 \
                    --stage relay --age-min 1s --age-max 2s --bytes-min 1k --bytes-max 2k --idle-min 3s";
        let values = parse_line(line).unwrap().command.unwrap().values;
        let filter = filter(&values).unwrap();
        let shown = format!("{filter:?}");
        assert!(!shown.contains("None"), "{shown}");
        assert_eq!((filter.age_ms_min, filter.bytes_max), (Some(1000), Some(2048)));
        for name in FILTERS {
            assert!(line.contains(&format!("--{name} ")), "{name}");
        }
    }
}
