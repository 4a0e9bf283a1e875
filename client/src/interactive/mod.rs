//! The interactive mode: a person at a terminal, one link that lasts, commands and followed events beside each other.
//!
//! The line editor has a thread of its own, since it blocks; this thread keeps the link, runs commands, looks up
//! names that completion asks for, and shows what happens above the line being edited.

mod editor;
mod history;
mod lookup;
mod pending;
mod screen;

use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use crate::cli::{Options, PasswordSource};
use crate::exit::Exit;
use crate::grammar::{Action, Parsed, Said, parse_line};
use crate::limits::{FOLLOWS_MAX, LOGINS_MAX};
use crate::link::{ConnectError, Link, News, Transport};
use crate::output::{Format, Printer, Sink, duration_for_people, name_text, safe, shown};
use crate::run::{Failure, Input, Runner};
use editor::{Editor, FromEditor, Heard};
use lookup::Names;
use pending::Pending;
use screen::Screen;

/// Runs until the person leaves; gives the exit code. `input` asks who logs in.
pub async fn run(options: &Options, input: Input) -> u8 {
    let local = LocalSet::new();
    local.run_until(converse(options, input)).await
}

async fn converse(options: &Options, mut input: Input) -> u8 {
    let started = match log_in(options, &mut input).await {
        Ok((link, user)) => Conversation::new(link, user, options, input),
        Err(failure) => Err(failure),
    };
    match started {
        Ok(mut conversation) => {
            let code = conversation.run().await;
            conversation.leave().await;
            code.code()
        }
        Err(failure) => {
            if let Some(line) = failure.line() {
                screen::complain(&format!("pipoctl: {line}"));
            }
            failure.exit().code()
        }
    }
}

/// Connects; a person who mistypes the password is asked again.
async fn log_in(options: &Options, input: &mut Input) -> Result<(Link, String), Failure> {
    let mut left = LOGINS_MAX;
    loop {
        let credentials = tokio::select! {
            credentials = crate::modes::credentials(options, input) => credentials?,
            _ = tokio::signal::ctrl_c() => return Err(Failure::Interrupted),
        };
        let connected = tokio::select! {
            connected = Link::connect_for_long(&options.target, &credentials) => connected,
            _ = tokio::signal::ctrl_c() => return Err(Failure::Interrupted),
        };
        left -= 1;
        match connected {
            Ok(link) => return Ok((link, name_text(credentials.user.as_bytes()))),
            Err(error @ ConnectError::LoginFailed(_))
                if left > 0 && options.password == PasswordSource::Asked =>
            {
                screen::complain(&format!("pipoctl: {}", safe(&error.to_string())));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Everything of one run.
struct Conversation {
    link: Rc<Link>,
    user: String,
    server: String,
    runner: Runner,
    globals: crate::grammar::Values,
    editor: Editor,
    screen: Screen,
    names: Names,
    pending: Pending,
    follows: JoinSet<()>,
    /// Each follow that runs: its number, its words, and how to end it.
    running: Vec<Running>,
    follow_last: u64,
    interrupts: Signal,
    /// Why the link is of no more use.
    gone: Option<String>,
}

struct Running {
    number: u64,
    words: String,
    task: tokio::task::AbortHandle,
}

/// What a line came to.
enum After {
    Next,
    Leave,
}

impl Conversation {
    fn new(link: Link, user: String, options: &Options, input: Input) -> Result<Self, Failure> {
        let failed = |what: &str, error: std::io::Error| Failure::Read { what: what.to_owned(), error };
        let (editor, screen) = Editor::start().map_err(|error| failed("the terminal", error))?;
        let printer = Printer::new(Format::of_stdout(), Sink::Stdout(tokio::io::stdout()));
        let mut runner = Runner::new(printer, input);
        runner.take_globals(&options.globals);
        Ok(Self {
            link: Rc::new(link),
            user,
            server: options.target.to_string(),
            runner,
            globals: options.globals.clone(),
            editor,
            screen,
            names: Names::default(),
            pending: Pending::default(),
            follows: JoinSet::new(),
            running: Vec::new(),
            follow_last: 0,
            interrupts: signal(SignalKind::interrupt()).map_err(|error| failed("signals", error))?,
            gone: None,
        })
    }

    async fn run(&mut self) -> Exit {
        self.greet();
        loop {
            // What was said so far stands above the prompt.
            self.screen.finish();
            self.editor.ask_command(self.prompt(), Some(self.link.role()));
            let line = match self.heard().await {
                Heard::Line(line) => line,
                Heard::Interrupted => {
                    self.end_last_follow();
                    continue;
                }
                Heard::End => match self.may_leave().await {
                    After::Leave => return Exit::Done,
                    After::Next => continue,
                },
                Heard::Failed(reason) => {
                    screen::complain(&format!("pipoctl: the terminal: {reason}"));
                    return Exit::Usage;
                }
            };
            if let After::Leave = self.run_line(&line).await {
                return Exit::Done;
            }
            if let Some(reason) = &self.gone {
                screen::complain(&format!("pipoctl: {reason}"));
                return Exit::Lost;
            }
        }
    }

    fn greet(&self) {
        let server = self.link.server();
        let over = match server.transport {
            Transport::Kernel => "kernel SCTP",
            Transport::Udp => "SCTP over UDP",
        };
        let software =
            if server.software.as_str().is_empty() { "a server" } else { server.software.as_str() };
        self.screen.line(&format!(
            "Connected to {} at {} by {over} as {} ({}). Type help for the commands, Ctrl-D to leave.",
            safe(software),
            safe(&self.server),
            self.user,
            self.link.role(),
        ));
    }

    /// Server, role, changes that are not committed, a commit that waits.
    fn prompt(&self) -> String {
        let mut prompt = format!("{} {}", safe(&self.server), self.link.role());
        match self.runner.uncommitted() {
            0 => {}
            count => prompt.push_str(&format!(" +{count}")),
        }
        if let Some(left) = self.pending.left(Instant::now()) {
            prompt.push_str(&format!(" confirm within {} s", left.as_secs()));
        }
        prompt.push_str(if self.link.is_up() { "> " } else { " (not connected)> " });
        prompt
    }

    /// Waits for what the person does, and does everything else meanwhile.
    async fn heard(&mut self) -> Heard {
        loop {
            let reminder = self.pending.next_reminder();
            tokio::select! {
                next = self.editor.next() => match next {
                    FromEditor::Heard(heard) => return heard,
                    FromEditor::Wanted(lookup) => self.names.answer(&self.link, lookup).await,
                },
                news = self.link.news() => self.tell(news),
                Some(_) = self.follows.join_next(), if !self.follows.is_empty() => {}
                () = sleep_until(reminder) => self.remind(),
            }
        }
    }

    async fn run_line(&mut self, line: &str) -> After {
        if matches!(line.trim(), "exit" | "quit") {
            return self.may_leave().await;
        }
        match parse_line(line) {
            Ok(said) => self.run_said(&said, line.trim()).await,
            Err(error) => self.complain(&Failure::from(error)),
        }
        After::Next
    }

    async fn run_said(&mut self, said: &Said, words: &str) {
        if said.command.as_ref().is_some_and(is_follow) && !said.globals.has("help") {
            return self.start_follow(said.clone(), words);
        }
        // What was pressed before concerns nothing that runs now.
        while tokio::time::timeout(Duration::ZERO, self.interrupts.recv()).await.is_ok() {}
        let Self { runner, link, interrupts, pending, screen, gone, .. } = self;
        let failure = {
            let running = runner.run(Some(link.as_ref()), said);
            tokio::pin!(running);
            loop {
                tokio::select! {
                    done = &mut running => break done.err(),
                    _ = interrupts.recv() => break Some(Failure::Interrupted),
                    news = link.news() => note(news, pending, screen, gone),
                }
            }
        };
        if let Some(failure) = failure {
            self.complain(&failure);
        }
        self.names.forget();
    }

    /// Events come above the line being edited until they end, or Ctrl-C is pressed.
    fn start_follow(&mut self, said: Said, words: &str) {
        self.running.retain(|running| !running.task.is_finished());
        if self.running.len() >= FOLLOWS_MAX {
            let sentence = format!("{FOLLOWS_MAX} commands follow already; Ctrl-C ends the last one");
            return self.complain(&Failure::usage(sentence));
        }
        let (link, screen, globals) = (Rc::clone(&self.link), self.screen.clone(), self.globals.clone());
        let shown_words = safe(words).into_owned();
        let name = shown_words.clone();
        let task = self.follows.spawn_local(async move {
            let to = screen.clone();
            let sink = Sink::Lines(Box::new(move |text| to.text(text)));
            let mut runner = Runner::new(Printer::new(Format::of_stdout(), sink), Input::of_nobody());
            runner.take_globals(&globals);
            let end = match runner.run(Some(link.as_ref()), &said).await {
                Ok(()) => format!("{name}: ended"),
                Err(failure) => format!("{name}: {}", failure.line().unwrap_or_default()),
            };
            screen.line(&end);
        });
        self.follow_last += 1;
        self.screen.line(&format!("{shown_words}: followed until Ctrl-C"));
        self.running.push(Running { number: self.follow_last, words: shown_words, task });
    }

    /// Ctrl-C at the prompt. Without a follow it has cleared the line, which is all.
    fn end_last_follow(&mut self) {
        self.running.retain(|running| !running.task.is_finished());
        if let Some(running) = self.running.pop() {
            running.task.abort();
            log::debug!("follow {} is ended", running.number);
            self.screen.line(&format!("{}: interrupted", running.words));
        }
    }

    async fn may_leave(&mut self) -> After {
        let question = match self.runner.uncommitted() {
            0 => return After::Leave,
            1 => "1 change is not committed. Leave all the same? [y/N] ".to_owned(),
            count => format!("{count} changes are not committed. Leave all the same? [y/N] "),
        };
        self.editor.ask_answer(question);
        match self.heard().await {
            Heard::Line(answer) if ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) => {
                After::Leave
            }
            // Who presses Ctrl-D twice means it.
            Heard::End | Heard::Failed(_) => After::Leave,
            Heard::Line(_) | Heard::Interrupted => After::Next,
        }
    }

    fn tell(&mut self, news: News) {
        note(news, &mut self.pending, &self.screen, &mut self.gone);
    }

    fn remind(&mut self) {
        if let Some(sentence) = self.pending.remind(Instant::now()) {
            self.screen.line(&sentence);
        }
    }

    fn complain(&self, failure: &Failure) {
        if matches!(failure, Failure::Interrupted) {
            self.screen.line("interrupted");
        } else if let Some(line) = failure.line() {
            self.screen.line(&line);
        }
    }

    async fn leave(&mut self) {
        self.follows.shutdown().await;
        self.link.goodbye().await;
        self.screen.finish();
    }
}

/// Shows news; remembers what of it lasts.
fn note(news: News, pending: &mut Pending, screen: &Screen, gone: &mut Option<String>) {
    match news {
        News::Notice(event) => {
            if let Some(notice) = &event.notice {
                pending.note(notice, Instant::now());
            }
            if let Some(shown) = shown(&event) {
                screen.line(&shown.line);
            }
        }
        News::Lost(reason) => screen.line(&format!("{}; connecting again", safe(&reason))),
        News::Waiting(pause) => {
            let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            screen.line(&format!("no connection yet; the next attempt is in {}", duration_for_people(pause)));
        }
        News::Back => screen.line("connected again; what was followed goes on"),
        News::GaveUp(reason) => {
            let reason = safe(&reason).into_owned();
            screen.line(&format!("not connected any more: {reason}"));
            *gone = Some(reason);
        }
    }
}

/// Whether it goes on until it is interrupted, showing what happens.
fn is_follow(parsed: &Parsed) -> bool {
    matches!(
        parsed.row.action,
        Action::Events | Action::LogFollow | Action::MetricsFollow | Action::SessionTrace
    )
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
