//! Questions to the workers that are under way: who has still to answer, and what has come so far.
//!
//! A question that gathers waits for every worker and is then carried on with by a closure. A list is collected
//! as its reader takes it: in the order of ids one worker after the other, a page at hand and one on its way; in
//! another order from all workers at once, and only the first rows are kept. Whoever reads a list holds its
//! [`ListKey`]; when that is gone, so is the list.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::core::Core;
use super::notes::PeerKey;
use super::ranked::Ranked;
use crate::ids::WorkerId;
use crate::limits;
use crate::proxy::inbox::{Message, Unasked};
use crate::proxy::live::{Answer, Details, Page, Question, QuestionId, Rest, Row};
use crate::proxy::plane::Plane;
use crate::resolver::CacheEntryView;

/// What the answers of all workers come to.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// The sum of what they counted.
    pub(super) count: u64,
    /// The session that was asked for.
    pub(super) details: Option<Box<Details>>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Too much is under way.
    Busy,
    /// A worker did not answer in time.
    Timeout,
    /// More rows than are kept for sorting.
    TooMany,
}

/// What comes next of a list.
#[derive(Debug)]
pub(super) enum NextRow<T> {
    Row(T),
    /// It is on its way; the association will be given a turn.
    Wait,
    End,
    Failed(Trouble),
}

/// Names a list to its one reader.
#[derive(Debug)]
pub(super) struct ListKey {
    id: QuestionId,
    _held: Arc<()>,
}

type Then = Box<dyn FnOnce(&mut Core, Result<Gathered, Trouble>) + Send>;

/// All questions that are under way.
#[derive(Default)]
pub(super) struct Inquiries {
    last: u64,
    open: BTreeMap<QuestionId, Inquiry>,
    /// Whose lists have grown.
    ready: Vec<PeerKey>,
}

enum Inquiry {
    Gathering(Gathering),
    Sorting(Sorting),
    Sessions(List<Row>),
    Cached(List<(WorkerId, CacheEntryView)>),
}

/// Every worker is asked for one answer.
struct Gathering {
    waits_for: usize,
    until: Instant,
    gathered: Gathered,
    trouble: Option<Trouble>,
    then: Then,
}

/// Every worker is asked for all its rows.
struct Sorting {
    reader: Reader,
    waits_for: usize,
    until: Instant,
    question: Question,
    ranked: Ranked,
    /// Rows that were asked for: what is left out behind them is nothing to tell of.
    limit: usize,
}

/// One worker is asked after the other.
struct List<T> {
    reader: Reader,
    question: Question,
    rows: VecDeque<T>,
    source: Source,
    /// Why it ends before its time, once its rows are taken.
    trouble: Option<Trouble>,
}

/// Whose turn follows when rows have come.
struct Reader {
    peer: PeerKey,
    held: Weak<()>,
}

/// Where the next rows of a list come from.
#[derive(Clone, Copy)]
enum Source {
    /// This worker is about to answer.
    Asked(WorkerId, Instant),
    /// It has another page.
    Waits(WorkerId),
    Nowhere,
}

// ---- asking ---------------------------------------------------------------------------------------------

impl Core {
    /// Whether another question may be asked for somebody.
    pub(super) fn check_room(&self) -> Result<(), Trouble> {
        if self.inquiries.open.len() < limits::ADMIN_INQUIRIES_MAX { Ok(()) } else { Err(Trouble::Busy) }
    }

    /// Asks one worker or all, and goes on with `then` once they have answered.
    pub(super) fn inquire(
        &mut self,
        question: &Question,
        to: Option<WorkerId>,
        then: impl FnOnce(&mut Self, Result<Gathered, Trouble>) + Send + 'static,
    ) {
        let id = self.inquiries.next_id();
        let (asked, result) = match to {
            None => self.plane.ask_all(id, question),
            Some(worker) => match self.plane.ask(worker, id, question.clone()) {
                Ok(()) => (1, Ok(())),
                Err(Unasked::Gone) => (0, Ok(())), // It has nothing to tell.
                Err(Unasked::Full) => (0, Err(Unasked::Full)),
            },
        };
        let gathering = Gathering {
            waits_for: asked,
            until: Instant::now() + limits::ADMIN_WORKERS_TIME_MAX,
            gathered: Gathered::default(),
            trouble: result.is_err().then_some(Trouble::Busy),
            then: Box::new(then),
        };
        if asked == 0 {
            return gathering.end(self);
        }
        self.inquiries.open.insert(id, Inquiry::Gathering(gathering));
    }

    /// Begins a list of sessions in the order of their ids, worker by worker.
    pub(super) fn list_sessions(&mut self, question: Question, peer: PeerKey) -> Result<ListKey, Trouble> {
        self.begin_list(question, peer, Inquiry::Sessions)
    }

    /// Begins a list of cached answers, worker by worker.
    pub(super) fn list_cached(&mut self, question: Question, peer: PeerKey) -> Result<ListKey, Trouble> {
        self.begin_list(question, peer, Inquiry::Cached)
    }

    fn begin_list<T>(
        &mut self,
        question: Question,
        peer: PeerKey,
        kind: impl FnOnce(List<T>) -> Inquiry,
    ) -> Result<ListKey, Trouble> {
        self.check_room()?;
        let (id, held) = (self.inquiries.next_id(), Arc::new(()));
        let mut list = List {
            reader: Reader { peer, held: Arc::downgrade(&held) },
            question,
            rows: VecDeque::new(),
            source: Source::Nowhere,
            trouble: None,
        };
        list.ask_from(id, WorkerId(0), &self.plane, Instant::now());
        if let Some(trouble) = list.trouble {
            return Err(trouble);
        }
        self.inquiries.open.insert(id, kind(list));
        Ok(ListKey { id, _held: held })
    }

    /// Begins a list of the first `limit` sessions in some order.
    pub(super) fn sort_sessions(
        &mut self,
        question: Question,
        ranked: Ranked,
        limit: usize,
        peer: PeerKey,
    ) -> Result<ListKey, Trouble> {
        self.check_room()?;
        let (id, held) = (self.inquiries.next_id(), Arc::new(()));
        let (waits_for, result) = self.plane.ask_all(id, &question);
        if result.is_err() {
            self.plane.tell(|| Message::Forget(id));
            return Err(Trouble::Busy);
        }
        let reader = Reader { peer, held: Arc::downgrade(&held) };
        let until = Instant::now() + limits::ADMIN_WORKERS_TIME_MAX;
        let sorting = Sorting { reader, waits_for, until, question, ranked, limit };
        let inquiry = match waits_for {
            0 => Inquiry::Sessions(sorting.into_list(None)),
            _ => Inquiry::Sorting(sorting),
        };
        self.inquiries.open.insert(id, inquiry);
        Ok(ListKey { id, _held: held })
    }

    /// The next session of a list.
    pub(super) fn next_session(&mut self, key: &ListKey) -> NextRow<Row> {
        match self.inquiries.open.get_mut(&key.id) {
            Some(Inquiry::Sessions(list)) => list.next(key.id, &self.plane),
            Some(Inquiry::Sorting(_)) => NextRow::Wait,
            Some(Inquiry::Gathering(_) | Inquiry::Cached(_)) | None => NextRow::End,
        }
    }

    /// The next cached answer of a list, and which worker has it.
    pub(super) fn next_cached(&mut self, key: &ListKey) -> NextRow<(WorkerId, CacheEntryView)> {
        match self.inquiries.open.get_mut(&key.id) {
            Some(Inquiry::Cached(list)) => list.next(key.id, &self.plane),
            Some(Inquiry::Gathering(_) | Inquiry::Sessions(_) | Inquiry::Sorting(_)) | None => NextRow::End,
        }
    }
}

// ---- hearing --------------------------------------------------------------------------------------------

impl Core {
    /// Takes an answer of a worker in.
    pub(super) fn answered(&mut self, worker: WorkerId, id: QuestionId, answer: Answer, now: Instant) {
        let Inquiries { open, ready, .. } = &mut self.inquiries;
        match (open.get_mut(&id), answer) {
            (None, _) => {} // Nobody waits for it any more.
            (Some(Inquiry::Gathering(gathering)), answer) => {
                if gathering.take(answer)
                    && let Some(Inquiry::Gathering(gathering)) = open.remove(&id)
                {
                    gathering.end(self);
                }
            }
            (Some(Inquiry::Sessions(list)), Answer::Sessions(page)) => {
                list.take(id, worker, page, &self.plane, now);
                ready.push(list.reader.peer);
            }
            (Some(Inquiry::Cached(list)), Answer::Cache(page)) => {
                let rows = page.rows.into_iter().map(|row| (worker, row)).collect();
                list.take(id, worker, Page { rows, rest: page.rest }, &self.plane, now);
                ready.push(list.reader.peer);
            }
            (Some(Inquiry::Sorting(sorting)), Answer::Sessions(page)) => {
                if sorting.take(id, worker, page, &self.plane, now)
                    && let Some(Inquiry::Sorting(sorting)) = open.remove(&id)
                {
                    ready.push(sorting.reader.peer);
                    open.insert(id, Inquiry::Sessions(sorting.into_list(None)));
                }
            }
            (Some(_), _) => self.fail_inquiry(id, Trouble::Busy),
        }
    }

    /// Associations whose lists have something new.
    pub(super) fn take_ready(&mut self) -> Vec<PeerKey> {
        std::mem::take(&mut self.inquiries.ready)
    }

    /// Ends what has waited too long, and forgets lists that nobody reads.
    pub(super) fn expire_inquiries(&mut self, now: Instant) {
        let given_up = self.inquiries.open.extract_if(.., |_, inquiry| inquiry.is_given_up());
        for (id, _) in given_up {
            self.plane.tell(|| Message::Forget(id));
        }
        let is_late = |inquiry: &Inquiry| inquiry.until().is_some_and(|until| now >= until);
        let late = self.inquiries.open.iter().filter(|(_, inquiry)| is_late(inquiry));
        let late: Vec<_> = late.map(|(id, _)| *id).collect();
        for id in late {
            log::error!("a worker did not answer in time");
            self.fail_inquiry(id, Trouble::Timeout);
        }
    }

    /// A question will not be answered: whoever waits learns it.
    fn fail_inquiry(&mut self, id: QuestionId, trouble: Trouble) {
        self.plane.tell(|| Message::Forget(id));
        let Some(inquiry) = self.inquiries.open.remove(&id) else { return };
        self.inquiries.ready.extend(inquiry.reader().map(|reader| reader.peer));
        let failed = match inquiry {
            Inquiry::Gathering(mut gathering) => {
                gathering.trouble = Some(trouble);
                return gathering.end(self);
            }
            Inquiry::Sorting(sorting) => Inquiry::Sessions(sorting.into_list(Some(trouble))),
            Inquiry::Sessions(list) => Inquiry::Sessions(list.failed(trouble)),
            Inquiry::Cached(list) => Inquiry::Cached(list.failed(trouble)),
        };
        self.inquiries.open.insert(id, failed);
    }

    /// When [`Core::expire_inquiries`] has something to do.
    pub(super) fn inquiries_deadline(&self) -> Option<Instant> {
        self.inquiries.open.values().filter_map(Inquiry::until).min()
    }
}

impl Inquiries {
    fn next_id(&mut self) -> QuestionId {
        self.last += 1;
        QuestionId(self.last)
    }
}

impl Inquiry {
    fn until(&self) -> Option<Instant> {
        match self {
            Self::Gathering(Gathering { until, .. }) | Self::Sorting(Sorting { until, .. }) => Some(*until),
            Self::Sessions(List { source, .. }) | Self::Cached(List { source, .. }) => match source {
                Source::Asked(_, until) => Some(*until),
                Source::Waits(_) | Source::Nowhere => None,
            },
        }
    }

    fn reader(&self) -> Option<&Reader> {
        match self {
            Self::Gathering(_) => None,
            Self::Sorting(Sorting { reader, .. })
            | Self::Sessions(List { reader, .. })
            | Self::Cached(List { reader, .. }) => Some(reader),
        }
    }

    fn is_given_up(&self) -> bool {
        self.reader().is_some_and(|reader| reader.held.strong_count() == 0)
    }
}

impl Gathering {
    /// Takes one worker's answer in; whether it was the last.
    fn take(&mut self, answer: Answer) -> bool {
        match answer {
            Answer::Count(count) => self.gathered.count += count,
            Answer::Session(Some(details)) => self.gathered.details = Some(details),
            Answer::Session(None) | Answer::Done | Answer::Sessions(_) | Answer::Cache(_) => {}
            Answer::Busy => self.trouble = Some(Trouble::Busy),
        }
        self.waits_for = self.waits_for.saturating_sub(1);
        self.waits_for == 0
    }

    fn end(self, core: &mut Core) {
        let result = self.trouble.map_or(Ok(self.gathered), Err);
        (self.then)(core, result);
    }
}

impl Sorting {
    /// Takes some rows in and asks for more; whether they were the last.
    fn take(
        &mut self,
        id: QuestionId,
        worker: WorkerId,
        page: Page<Row>,
        plane: &Plane,
        now: Instant,
    ) -> bool {
        self.until = now + limits::ADMIN_WORKERS_TIME_MAX;
        page.rows.into_iter().for_each(|row| self.ranked.push(row));
        match page.rest {
            Rest::Waits => plane.tell_one(worker, Message::More(id)),
            Rest::Nothing => self.waits_for = self.waits_for.saturating_sub(1),
        }
        self.waits_for == 0
    }

    /// The rows that were kept, in order.
    fn into_list(self, trouble: Option<Trouble>) -> List<Row> {
        let is_short = self.ranked.dropped_count > 0 && self.ranked.rows_max < self.limit;
        List {
            reader: self.reader,
            question: self.question,
            rows: if is_short { VecDeque::new() } else { self.ranked.into_rows().collect() },
            source: Source::Nowhere,
            trouble: trouble.or(is_short.then_some(Trouble::TooMany)),
        }
    }
}

impl<T> List<T> {
    fn failed(self, trouble: Trouble) -> Self {
        Self { source: Source::Nowhere, trouble: Some(trouble), ..self }
    }

    fn take(&mut self, id: QuestionId, worker: WorkerId, page: Page<T>, plane: &Plane, now: Instant) {
        if !matches!(self.source, Source::Asked(asked, _) if asked == worker) {
            return; // It has failed meanwhile.
        }
        self.rows.extend(page.rows);
        match page.rest {
            Rest::Waits => self.source = Source::Waits(worker),
            Rest::Nothing => self.ask_from(id, WorkerId(worker.0 + 1), plane, now),
        }
    }

    /// Asks the first worker from `first` on that there still is.
    fn ask_from(&mut self, id: QuestionId, first: WorkerId, plane: &Plane, now: Instant) {
        self.source = Source::Nowhere;
        let mut worker = first;
        while usize::from(worker.0) < plane.workers_count() {
            match plane.ask(worker, id, self.question.clone()) {
                Ok(()) => {
                    self.source = Source::Asked(worker, now + limits::ADMIN_WORKERS_TIME_MAX);
                    return;
                }
                Err(Unasked::Gone) => worker = WorkerId(worker.0 + 1),
                Err(Unasked::Full) => {
                    self.trouble = Some(Trouble::Busy);
                    return;
                }
            }
        }
    }

    fn next(&mut self, id: QuestionId, plane: &Plane) -> NextRow<T> {
        if let Source::Waits(worker) = self.source
            && self.rows.len() < limits::DESK_PAGE_ROWS
        {
            plane.tell_one(worker, Message::More(id));
            self.source = Source::Asked(worker, Instant::now() + limits::ADMIN_WORKERS_TIME_MAX);
        }
        if let Some(row) = self.rows.pop_front() {
            return NextRow::Row(row);
        }
        match (self.source, self.trouble) {
            (Source::Nowhere, Some(trouble)) => NextRow::Failed(trouble),
            (Source::Nowhere, None) => NextRow::End,
            (Source::Asked(..) | Source::Waits(_), _) => NextRow::Wait,
        }
    }
}
