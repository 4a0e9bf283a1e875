//! Both texts, whole and in pieces; and docs/METRICS.md, which is made here.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use expect_test::{expect, expect_file};

use super::*;

fn row(label: &str, values: [u64; PerUser::COUNT]) -> UserRow {
    UserRow { label: label.into(), values }
}

fn metrics() -> Metrics {
    let metrics = Metrics::new(2);
    for place in 0..2 {
        let worker = metrics.worker(place).unwrap();
        worker.add(Counter::BytesUp, 1000);
        worker.add(Counter::SessionsAccepted, 2);
        worker.set(Gauge::SessionsCurrent, place as u64 + 1);
        worker.observe(Histogram::ConnectDuration, 1_500);
        worker.observe(Histogram::SessionUp, 1 << 40);
    }
    metrics
}

fn exposition(format: Format) -> Exposition {
    let mut facts = [0; Fact::COUNT];
    facts[Fact::StartTime as usize] = 1_700_000_000_250_000;
    let users = vec![row("a\\\"b", [1, 2, 3, 4]), row(OTHERS, [0, 9, 8, 7])];
    Exposition::new(format, facts, users)
}

fn render(format: Format) -> String {
    let mut text = String::new();
    assert_eq!(exposition(format).render(&metrics(), &mut text, usize::MAX), Progress::Finished);
    text
}

fn about(text: &str, name: &str) -> String {
    text.lines().filter(|line| line.contains(name)).fold(String::new(), |all, line| all + line + "\n")
}

#[test]
fn openmetrics_names_families_and_ends_with_a_mark() {
    let text = render(Format::OpenMetrics);
    assert!(text.ends_with("\n# EOF\n"));
    expect![[r#"
        # HELP socks5d_start_time_seconds When the daemon started, since 1970.
        # TYPE socks5d_start_time_seconds gauge
        # UNIT socks5d_start_time_seconds seconds
        socks5d_start_time_seconds 1700000000.250000
    "#]]
    .assert_eq(&about(&text, "start_time"));
    expect![[r#"
        # HELP socks5d_payload_bytes Payload moved, up to origins and down to clients.
        # TYPE socks5d_payload_bytes counter
        # UNIT socks5d_payload_bytes bytes
        socks5d_payload_bytes_total{direction="up"} 2000
        socks5d_payload_bytes_total{direction="down"} 0
    "#]]
    .assert_eq(&about(&text, "socks5d_payload"));
    expect![[r#"
        # HELP socks5d_sessions_current Sessions open now.
        # TYPE socks5d_sessions_current gauge
        socks5d_sessions_current{worker="0"} 1
        socks5d_sessions_current{worker="1"} 2
    "#]]
    .assert_eq(&about(&text, "sessions_current"));
}

#[test]
fn the_older_text_names_samples() {
    let text = render(Format::Text);
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    expect![[r#"
        # HELP socks5d_sessions_accepted_total Connections accepted from clients.
        # TYPE socks5d_sessions_accepted_total counter
        socks5d_sessions_accepted_total 4
    "#]]
    .assert_eq(&about(&text, "sessions_accepted"));
    assert!(text.contains("# TYPE socks5d_build_info gauge\nsocks5d_build_info{version=\""));
    expect![[r#"
        # HELP socks5d_user_payload_bytes_total Payload of the user's sessions, up to origins and down to clients.
        # TYPE socks5d_user_payload_bytes_total counter
        socks5d_user_payload_bytes_total{user="a\\\"b",direction="up"} 3
        socks5d_user_payload_bytes_total{user="a\\\"b",direction="down"} 4
        socks5d_user_payload_bytes_total{user="(others)",direction="up"} 8
        socks5d_user_payload_bytes_total{user="(others)",direction="down"} 7
    "#]]
    .assert_eq(&about(&text, "user_payload"));
}

#[test]
fn buckets_hold_what_is_below_them() {
    let text = render(Format::Text);
    let lines: Vec<_> =
        text.lines().filter(|line| line.starts_with("socks5d_connect_duration_seconds")).collect();
    expect![[r#"
        socks5d_connect_duration_seconds_bucket{le="0.0005"} 0
        socks5d_connect_duration_seconds_bucket{le="0.001"} 0
        socks5d_connect_duration_seconds_bucket{le="0.0025"} 2
    "#]]
    .assert_eq(&(lines[..3].join("\n") + "\n"));
    expect![[r#"
        socks5d_connect_duration_seconds_bucket{le="10.0"} 2
        socks5d_connect_duration_seconds_bucket{le="+Inf"} 2
        socks5d_connect_duration_seconds_count 2
        socks5d_connect_duration_seconds_sum 0.003000
    "#]]
    .assert_eq(&(lines[lines.len() - 4..].join("\n") + "\n"));
    assert!(text.contains("socks5d_session_up_bytes_bucket{le=\"256.0\"} 0\n"));
    assert!(text.contains("socks5d_session_up_bytes_bucket{le=\"17179869184.0\"} 0\n"));
    assert!(text.contains("socks5d_session_up_bytes_bucket{le=\"+Inf\"} 2\n"));
}

#[test]
fn pieces_are_the_whole() {
    for format in [Format::OpenMetrics, Format::Text] {
        let (mut pieces, mut piece, metrics) = (String::new(), String::new(), metrics());
        let mut exposition = exposition(format);
        while exposition.render(&metrics, &mut piece, 1) == Progress::Unfinished {
            pieces.push_str(&std::mem::take(&mut piece));
        }
        assert_eq!(pieces + &piece, render(format));
    }
}

#[test]
fn many_users_come_in_pieces_and_none_is_lost() {
    let users: Vec<_> = (0..1000_u64).map(|user| row(&format!("user{user}"), [user; 4])).collect();
    let mut exposition = Exposition::new(Format::Text, [0; Fact::COUNT], users);
    let (mut all, mut longest) = (String::new(), 0);
    loop {
        let mut piece = String::new();
        let progress = exposition.render(&metrics(), &mut piece, 1);
        longest = longest.max(piece.len());
        all.push_str(&piece);
        if progress == Progress::Finished {
            break;
        }
    }
    assert!(longest < 16 * 1024, "{longest} bytes at once");
    for user in 0..1000 {
        assert!(
            all.contains(&format!("\nsocks5d_user_sessions_relayed_total{{user=\"user{user}\"}} {user}\n"))
        );
    }
}

#[test]
fn without_users_there_are_no_metrics_of_users() {
    let mut text = String::new();
    Exposition::new(Format::OpenMetrics, [0; Fact::COUNT], Vec::new()).render(
        &metrics(),
        &mut text,
        usize::MAX,
    );
    assert!(!text.contains("_user_"));
}

#[test]
fn every_row_of_the_list_is_shown_once() {
    let all = Metric::all();
    let names: BTreeSet<_> = all.iter().map(|metric| metric.name()).collect();
    assert_eq!(names.len(), all.len());
    let text = render(Format::OpenMetrics);
    for metric in &all {
        // What would have to be escaped in a help text is not in one.
        assert!(!metric.meaning().contains(['\\', '\n', '"']), "{metric:?}");
        for series in metric.series() {
            let samples = text
                .lines()
                .filter(|line| line.strip_prefix(&series).is_some_and(|rest| rest.starts_with([' ', '{'])));
            assert!(samples.count() > 0, "{series}");
        }
    }
    let counters = Counter::ALL.len();
    let shown = text.lines().filter(|line| line.contains("_total") && !line.contains("_user_"));
    assert_eq!(shown.count(), counters, "a line for each counter");
}

// ---- docs/METRICS.md -----------------------------------------------------------------------------------

#[test]
fn the_document_is_made_from_the_list() {
    expect_file!["../../../docs/METRICS.md"].assert_eq(&document());
}

fn document() -> String {
    let mut text = String::from(INTRODUCTION);
    let mut counters = String::new();
    for metric in Metric::all() {
        let kind = metric.kind().word(Format::OpenMetrics);
        let labels: Vec<_> = metric.labels().iter().map(|label| format!("`{label}`")).collect();
        let name = match metric.kind() {
            Kind::Histogram => metric.name(),
            Kind::Gauge | Kind::Counter | Kind::Info => metric.series().join(", "),
        };
        writeln!(text, "| `{name}` | {kind} | {} | {} |", labels.join(", "), metric.meaning()).unwrap();
        let (Metric::Family(family) | Metric::UserFamily(family)) = metric else { continue };
        writeln!(counters, "\n### {name}, by {}\n\n| {} | |\n| --- | --- |", family.label(), family.label())
            .unwrap();
        let members = Counter::ALL.iter().map(|c| (c.family(), c.meaning()));
        let members = members.chain(PerUser::ALL.iter().map(|u| (u.family(), u.meaning())));
        for (of, meaning) in members {
            if let Some((_, value)) = of.filter(|(of, _)| *of == family) {
                writeln!(counters, "| `{value}` | {meaning} |").unwrap();
            }
        }
    }
    text + "\n## The values of labels\n" + &counters + BUCKETS + &buckets()
}

fn buckets() -> String {
    let mut text = String::new();
    for histogram in Histogram::ALL {
        let bounds: Vec<_> =
            histogram.bounds().iter().map(|bound| Bound(*bound, histogram.unit()).to_string()).collect();
        let name = Metric::Histogram(*histogram).name();
        writeln!(text, "- `{name}`: {}", bounds.join(", ")).unwrap();
    }
    text
}

const INTRODUCTION: &str = "\
# Metrics

This file is made from the list in src/metrics/names.rs; a test compares them, and
`UPDATE_EXPECT=1 cargo test -p socks5d --lib the_document_is_made` writes it anew. Names and labels stay as they
are: what is added gets a new name.

## How they are read

`--metrics-listen 127.0.0.1:9108` (off by default, may be repeated) serves over plain HTTP, to anyone who reaches
that address: keep it on loopback or in a network of your own.

| path | |
| --- | --- |
| `/metrics` | OpenMetrics 1.0 where the client accepts it (as Prometheus does), else text format 0.0.4 |
| `/healthz` | 200 as long as the control loop turns |
| `/readyz` | 200 while new clients are served; 503 while draining, out of descriptors, or full |

The first `--metrics-users` users (20 by default, 1,000 at most, 0 for none) that have had a session are shown
under their names; all others share `user=\"(others)\"`, so that the number of series has a bound. A user keeps the
label until removed. What is not printable ASCII is escaped in the label. A user's bytes appear when a session has
moved 64 KiB more, and at its end.

Each worker counts for itself; a sum over `worker` is the daemon's. Counters begin at 0 with each start. Nothing
of a scrape waits for a worker, and a scrape takes its turns beside the rest of the control loop.

packaging/prometheus has alert rules and a configuration to begin with. Version 2 of the admin channel (`metrics`)
shows the same list by the short names of src/metrics/names.rs; of a histogram `NAME_count`, `NAME_sum`, and
`NAME_le_BOUND` for the values that did not exceed a bound, times in microseconds.

## The list

| name | kind | labels | |
| --- | --- | --- | --- |
";

const BUCKETS: &str = "
## Buckets

Upper bounds, in the unit of the name; one more bucket, `+Inf`, has none.

";
