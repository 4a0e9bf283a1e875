//! Where a worker answers what the control loop asks: some sessions a turn, so that a hundred thousand of them
//! hold up nobody. `live.rs` has the questions, `views.rs` what is shown of a session; answers and events leave
//! through the door when a turn ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::door::Door;
use super::inbox::{SessionKey, Switch};
use super::live::{Answer, Page, Question, QuestionId, Rest, Run, Told, Whose};
use super::order::Order;
use super::slot::Slot;
use super::trace::Traces;
use super::worker::Worker;
use crate::ids::{SessionId, WorkerId};
use crate::limits;
use crate::logging::CloseReason;
use crate::resolver::DomainName;

/// What a worker has under way for the control loop.
#[derive(Debug)]
pub(super) struct Desk {
    door: Arc<Door>,
    /// Those that go on by themselves take turns; the others wait until more is asked for.
    tasks: VecDeque<Task>,
    /// Answers and events of this turn.
    told: Vec<Told>,
    /// Whether somebody wants to hear of every session.
    pub(super) news: Switch,
    pub(super) traces: Traces,
}

/// A question under way.
#[derive(Debug)]
struct Task {
    id: QuestionId,
    question: Question,
    at: Mark,
    /// What was done so far: sessions, connections.
    count: u64,
    state: State,
}

/// How far a question has come.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Where it goes on: a place among the sessions, or in the cache. `None`: nothing is left.
    next: Option<usize>,
    /// Sessions that began later are of no interest.
    last: SessionId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Runs,
    /// A page was given, and the next was not asked for yet.
    Waits,
}

/// Whether a question is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Answered,
    GoesOn,
}

/// What became of a search.
enum Search {
    Found(SessionKey),
    Nowhere,
    GoesOn,
}

impl Desk {
    pub(super) fn new(door: Arc<Door>) -> Self {
        Self { door, tasks: VecDeque::new(), told: Vec::new(), news: Switch::Off, traces: Traces::default() }
    }

    /// Whether there is something to do even if nothing happens.
    pub(super) fn is_busy(&self) -> bool {
        self.tasks.iter().any(|task| task.state == State::Runs)
    }

    pub(super) fn more(&mut self, id: QuestionId) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
            task.state = State::Runs;
        }
    }

    pub(super) fn forget(&mut self, id: QuestionId) {
        self.tasks.retain(|task| task.id != id);
    }

    pub(super) fn tell(&mut self, told: Told) {
        self.told.push(told);
    }

    /// Hands over what this turn has to tell. Gives how many events and steps found no room.
    pub(super) fn hand_over(&mut self, worker: WorkerId) -> u64 {
        if self.told.is_empty() { 0 } else { self.door.tell(worker, &mut self.told) }
    }

    /// Answers every question, as there is nothing left to look at.
    pub(super) fn answer_all(&mut self) {
        for task in std::mem::take(&mut self.tasks) {
            let answer = match task.question {
                Question::Sessions(_) => Answer::Sessions(Page { rows: Vec::new(), rest: Rest::Nothing }),
                Question::Cache(_) => Answer::Cache(Page { rows: Vec::new(), rest: Rest::Nothing }),
                Question::Session(_) => Answer::Session(None),
                Question::Trace(_) | Question::Kill(..) | Question::EndFormer(_) | Question::Flush(_) => {
                    Answer::Count(task.count)
                }
                Question::Rest | Question::Resume => Answer::Done,
            };
            self.tell(Told::Answer(task.id, answer));
        }
    }

    fn take_task(&mut self) -> Option<Task> {
        let place = self.tasks.iter().position(|task| task.state == State::Runs)?;
        self.tasks.remove(place)
    }
}

impl Question {
    fn is_about_sessions(&self) -> bool {
        match self {
            Self::Sessions(_) | Self::Session(_) | Self::Trace(_) | Self::Kill(..) | Self::EndFormer(_) => {
                true
            }
            Self::Cache(_) | Self::Flush(_) | Self::Rest | Self::Resume => false,
        }
    }
}

impl Worker {
    /// Takes a question in.
    pub(super) fn ask(&mut self, id: QuestionId, question: Question) {
        if self.desk.tasks.len() >= limits::DESK_QUESTIONS_MAX {
            return self.desk.tell(Told::Answer(id, Answer::Busy));
        }
        let next = if question.is_about_sessions() { self.order.oldest() } else { Some(0) };
        let at = Mark { next, last: self.youngest_id() };
        self.desk.tasks.push_back(Task { id, question, at, count: 0, state: State::Runs });
    }

    /// The session at `index` is about to go: whoever would go on with it goes on with the next.
    pub(super) fn skip(&mut self, index: usize) {
        if self.desk.tasks.is_empty() {
            return;
        }
        let next = Order::after(&mut self.sessions, index);
        for task in &mut self.desk.tasks {
            if task.at.next == Some(index) && task.question.is_about_sessions() {
                task.at.next = next;
            }
        }
    }

    /// Goes on with one question, for no longer than its share of the turn.
    pub(super) fn work(&mut self) {
        let Some(mut task) = self.desk.take_task() else { return };
        if self.work_on(&mut task) == Progress::GoesOn {
            self.desk.tasks.push_back(task);
        }
    }

    fn work_on(&mut self, task: &mut Task) -> Progress {
        let answer = match &task.question {
            Question::Sessions(_) => return self.list(task),
            Question::Cache(None) => return self.list_cache(task),
            Question::Kill(..) | Question::EndFormer(_) => return self.sweep(task),
            Question::Cache(Some(name)) => self.cached(name),
            Question::Flush(name) => Answer::Count(self.resolver.flush(name.as_ref()) as u64),
            Question::Session(id) => match self.find(*id, &mut task.at) {
                Search::Found(key) => Answer::Session(self.details(key).map(Box::new)),
                Search::Nowhere => Answer::Session(None),
                Search::GoesOn => return Progress::GoesOn,
            },
            Question::Trace(id) => match self.find(*id, &mut task.at) {
                Search::Found(key) => Answer::Count(self.begin_trace(key)),
                Search::Nowhere => Answer::Count(0),
                Search::GoesOn => return Progress::GoesOn,
            },
            Question::Rest => match self.come_to_rest(&mut task.count) {
                Progress::GoesOn => return Progress::GoesOn,
                Progress::Answered => Answer::Done,
            },
            Question::Resume => {
                self.accept_again();
                Answer::Done
            }
        };
        self.desk.tell(Told::Answer(task.id, answer));
        Progress::Answered
    }

    /// The next page of sessions, if there is one among the next few.
    fn list(&mut self, task: &mut Task) -> Progress {
        let Question::Sessions(filter) = &task.question else { return Progress::Answered };
        let mut rows = Vec::new();
        for _ in 0..limits::DESK_SLOTS_PER_TURN {
            let Some(slot) = self.step_on(&mut task.at).and_then(|index| self.sessions.get(index)) else {
                break;
            };
            if filter.matches(&slot.glimpse(self.now)) {
                rows.push(slot.row(self.now));
            }
        }
        let rest = rest_of(task.at);
        if rows.is_empty() && rest == Rest::Waits {
            return Progress::GoesOn;
        }
        self.give(task, Answer::Sessions(Page { rows, rest }))
    }

    fn list_cache(&mut self, task: &mut Task) -> Progress {
        let start = task.at.next.unwrap_or(usize::MAX);
        let entries = self.resolver.entries(start, limits::DESK_SLOTS_PER_TURN, self.now);
        task.at.next = entries.is_some().then(|| start.saturating_add(limits::DESK_SLOTS_PER_TURN));
        let rows: Vec<_> = entries.into_iter().flatten().collect();
        let rest = rest_of(task.at);
        if rows.is_empty() && rest == Rest::Waits {
            return Progress::GoesOn;
        }
        self.give(task, Answer::Cache(Page { rows, rest }))
    }

    fn cached(&self, name: &DomainName) -> Answer {
        let rows = self.resolver.entries_of(name, self.now).collect();
        Answer::Cache(Page { rows, rest: Rest::Nothing })
    }

    /// Gives a page; the next one has to be asked for.
    fn give(&mut self, task: &mut Task, page: Answer) -> Progress {
        let progress = if page.is_last() { Progress::Answered } else { Progress::GoesOn };
        self.desk.tell(Told::Answer(task.id, page));
        task.state = State::Waits;
        progress
    }

    /// Ends, or counts, the sessions that the question means.
    fn sweep(&mut self, task: &mut Task) -> Progress {
        let end = Instant::now() + limits::DESK_BUDGET;
        while let Some(index) = self.step_on(&mut task.at) {
            let Some(slot) = self.sessions.get(index) else { break };
            if is_meant(&task.question, slot, self.now) {
                task.count += 1;
                if !matches!(task.question, Question::Kill(_, Run::Dry)) {
                    self.end(slot.key(index), CloseReason::Killed);
                }
            }
            if Instant::now() >= end && task.at.next.is_some() {
                return Progress::GoesOn;
            }
        }
        self.desk.tell(Told::Answer(task.id, Answer::Count(task.count)));
        Progress::Answered
    }

    fn find(&mut self, id: SessionId, at: &mut Mark) -> Search {
        let end = Instant::now() + limits::DESK_BUDGET;
        while let Some(index) = self.step_on(at) {
            let Some(slot) = self.sessions.get(index) else { break };
            if slot.id == id {
                return Search::Found(slot.key(index));
            }
            if slot.id > id {
                break; // They come in the order of their ids.
            }
            if Instant::now() >= end && at.next.is_some() {
                return Search::GoesOn;
            }
        }
        Search::Nowhere
    }

    /// The next session of a search, and where it goes on after it.
    fn step_on(&mut self, at: &mut Mark) -> Option<usize> {
        let index = at.next?;
        at.next = Order::after(&mut self.sessions, index);
        let is_of_interest = self.sessions.get(index).is_some_and(|slot| slot.id <= at.last);
        if !is_of_interest {
            at.next = None;
        }
        is_of_interest.then_some(index)
    }

    /// Accepts what waits, a few connections a turn, then takes the listeners out.
    fn come_to_rest(&mut self, accepted: &mut u64) -> Progress {
        let before = self.sessions_begun;
        let is_empty = self.empty_backlogs();
        *accepted += self.sessions_begun - before;
        if !is_empty && *accepted < limits::LISTEN_BACKLOG.unsigned_abs().into() {
            return Progress::GoesOn;
        }
        self.rest();
        Progress::Answered
    }
}

/// Whether a session is one of those to end.
fn is_meant(question: &Question, slot: &Slot, now: Instant) -> bool {
    match question {
        Question::Kill(selection, _) => selection.has(slot.id, &slot.glimpse(now)),
        Question::EndFormer(Whose::Everyone) => slot.is_of_former_user(),
        Question::EndFormer(Whose::One(live)) => {
            Arc::ptr_eq(slot.facts.user.live(), live) && slot.is_of_former_user()
        }
        Question::Sessions(_)
        | Question::Session(_)
        | Question::Trace(_)
        | Question::Cache(_)
        | Question::Flush(_)
        | Question::Rest
        | Question::Resume => false,
    }
}

fn rest_of(at: Mark) -> Rest {
    if at.next.is_some() { Rest::Waits } else { Rest::Nothing }
}

#[cfg(test)]
mod tests;
