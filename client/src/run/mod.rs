//! What commands do: one match from the grammar's actions to requests, answers to output.
//!
//! The same for all modes; a mode brings the lines, the link, the printer, and a way to ask a person.

// The start: where input comes from.
mod input;
// One runner, and its commands by what they do.
mod changes;
mod config;
mod failure;
mod follow;
mod queries;
mod sessions;
mod version_1;

pub use failure::Failure;
pub use input::{Input, Person};
pub(crate) use input::{can_ask, hidden_line, password};

use pipo_protocol::Version;
use pipo_protocol::v2::Role;

use crate::grammar::{Action, Parsed, Said, Scope, UsageError, Values, Version1, parse_words};
use crate::link::Link;
use crate::output::{Colour, Format, Printer};
use config::Candidate;

/// Runs commands; holds what lasts from one to the next.
#[derive(Debug)]
pub struct Runner {
    printer: Printer,
    input: Input,
    candidate: Candidate,
    yes: Consent,
}

/// Whether somebody has to be asked before sessions are ended by a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consent {
    Given,
    ToBeAsked,
}

impl Runner {
    /// A runner that writes there and reads passwords and answers from there.
    #[must_use]
    pub fn new(printer: Printer, input: Input) -> Self {
        Self { printer, input, candidate: Candidate::default(), yes: Consent::ToBeAsked }
    }

    /// How many changes the candidate holds.
    #[must_use]
    pub fn uncommitted(&self) -> usize {
        self.candidate.len()
    }

    /// Where output goes.
    pub fn printer(&mut self) -> &mut Printer {
        &mut self.printer
    }

    /// Where passwords and answers come from.
    pub fn input(&mut self) -> &mut Input {
        &mut self.input
    }

    /// Whether a command can be run without a server.
    #[must_use]
    pub fn is_local(parsed: &Parsed) -> bool {
        parsed.row.version_1 == Version1::Local && parsed.row.action != Action::Watch
    }

    /// Runs what was said. Without a link only what is local can be.
    pub async fn run(&mut self, link: Option<&Link>, said: &Said) -> Result<(), Failure> {
        let role = link.filter(|link| is_version_2(link)).map(Link::role);
        if said.globals.has("help") {
            let words: Vec<_> = said
                .globals
                .text("help-on")
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect();
            return self.help(&words, role).await;
        }
        let Some(parsed) = &said.command else { return Ok(()) };
        let format = self.printer.format;
        let yes = self.yes;
        self.take_globals(&said.globals);
        let done = match link {
            Some(link) if !Self::is_local(parsed) => Box::pin(self.run_command(link, parsed)).await,
            _ => self.run_local(parsed, role).await,
        };
        (self.printer.format, self.yes) = (format, yes);
        done
    }

    /// Options of output hold for one line, or for all when they stand on pipoctl's command line.
    pub fn take_globals(&mut self, globals: &Values) {
        if globals.has("json-lines") {
            self.printer.format = Format::JsonLines;
        } else if globals.has("json") {
            self.printer.format = Format::Json;
        }
        if globals.has("yes") {
            self.yes = Consent::Given;
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "all others need a server")]
    async fn run_local(&mut self, parsed: &Parsed, role: Option<Role>) -> Result<(), Failure> {
        match parsed.row.action {
            Action::Help => {
                let words: Vec<_> = parsed.values.texts("COMMAND").map(str::to_owned).collect();
                self.help(&words, role).await
            }
            Action::ConfigShow => self.config_show().await,
            Action::ConfigDiscard => self.config_discard(&parsed.values).await,
            _ => Err(Failure::NotConnected),
        }
    }

    async fn help(&mut self, words: &[String], role: Option<Role>) -> Result<(), Failure> {
        let text = match words {
            [] => crate::grammar::overview(role),
            words => crate::grammar::command_help(words)?,
        };
        Ok(self.printer.text(&text).await?)
    }

    async fn run_command(&mut self, link: &Link, parsed: &Parsed) -> Result<(), Failure> {
        let values = &parsed.values;
        if parsed.row.action == Action::Watch {
            return self.watch(link, values).await;
        }
        if !is_version_2(link) {
            return self.run_version_1(link, parsed).await;
        }
        match parsed.row.action {
            Action::ServerInfo => self.server_info(link, values).await,
            Action::ServerWorkers => self.server_workers(link).await,
            Action::Metrics => self.metrics(link, values).await,
            Action::Statistics => self.statistics(link).await,
            Action::UserList => self.user_list(link, values).await,
            Action::SettingList => self.setting_list(link, values).await,
            Action::SettingGet => self.setting_get(link, values).await,
            Action::DnsShow => self.dns_show(link, values).await,
            Action::SessionList => self.session_list(link, values).await,
            Action::SessionShow => self.session_show(link, values).await,
            Action::SessionKill => self.session_kill(link, values).await,
            Action::SessionTrace => self.session_trace(link, values).await,
            Action::MetricsFollow => self.metrics_follow(link, values).await,
            Action::LogFollow => self.log_follow(link, values).await,
            Action::Events => self.events(link, values).await,
            Action::UserAdd => self.user_add(link, values).await,
            Action::UserRemove => self.user_remove(link, values).await,
            Action::UserPassword => self.user_password(link, values).await,
            Action::UserRole => self.user_role(link, values).await,
            Action::SettingSet => self.setting_set(link, values).await,
            Action::SettingReset => self.setting_reset(link, values).await,
            Action::DnsFlush => self.dns_flush(link, values).await,
            Action::LogRotate => self.log_rotate(link).await,
            Action::ServerDrain => self.server_drain(link).await,
            Action::ServerUndrain => self.server_undrain(link).await,
            Action::ServerShutdown => self.server_shutdown(link, values).await,
            Action::ConfigStatus => self.config_status(link).await,
            Action::ConfigSet
            | Action::ConfigReset
            | Action::ConfigAddUser
            | Action::ConfigRemoveUser
            | Action::ConfigPassword
            | Action::ConfigRole => self.config_add(link, parsed).await,
            Action::ConfigRebase => self.config_rebase(link).await,
            Action::ConfigDiff => self.config_diff(link, values).await,
            Action::ConfigCheck => self.config_check(link, values).await,
            Action::ConfigCommit => self.config_commit(link, values).await,
            Action::ConfigConfirm => self.config_confirm(link, values).await,
            Action::ConfigRollback => self.config_rollback(link, values).await,
            Action::Watch | Action::Help | Action::ConfigShow | Action::ConfigDiscard => {
                self.run_local(parsed, Some(link.role())).await
            }
        }
    }

    /// Repeats a command that only looks, until it is interrupted, fails, or has been run so often.
    async fn watch(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let words: Vec<_> = values.texts("COMMAND").map(str::to_owned).collect();
        let said = parse_words(&words, Scope::Line)?;
        let watchable = |parsed: &Parsed| {
            parsed.row.is_query() && !Self::is_local(parsed) && !is_endless(parsed.row.action)
        };
        if !said.command.as_ref().is_some_and(watchable) {
            let sentence = format!("watch: {} does not only look", crate::output::safe(&words.join(" ")));
            return Err(UsageError::new(sentence).into());
        }
        let interval = follow::interval(values, crate::limits::WATCH_INTERVAL_DEFAULT)?;
        let mut left: Option<u32> = values.number("count");
        self.take_globals(&said.globals);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut first = true;
        while left != Some(0) {
            ticks.tick().await;
            match self.printer.format {
                Format::Table(colour) => {
                    let clear = if colour == Colour::On { "\x1b[H\x1b[2J\x1b[3J" } else { "" };
                    let every = crate::output::duration_for_people(
                        u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
                    );
                    let words = crate::output::safe(&words.join(" ")).into_owned();
                    self.printer.text(&format!("{clear}every {every}: {words}\n\n")).await?;
                }
                Format::Plain if !first => self.printer.text("\n").await?,
                Format::Plain | Format::Json | Format::JsonLines => {}
            }
            first = false;
            self.run(Some(link), &said).await?;
            left = left.map(|left| left - 1);
        }
        Ok(())
    }
}

/// Whether it goes on until it is interrupted.
fn is_endless(action: Action) -> bool {
    matches!(
        action,
        Action::Events | Action::LogFollow | Action::MetricsFollow | Action::SessionTrace | Action::Watch
    )
}

fn is_version_2(link: &Link) -> bool {
    link.server().version == Version::V2
}
