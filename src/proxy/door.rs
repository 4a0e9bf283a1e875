//! What workers tell the control loop, on its way: a bounded pile for each worker, and a waker.
//!
//! Answers always find room, since there are few questions; events and steps of traces do as long as there are
//! fewer than [`limits::NEWS_PER_WORKER_MAX`], and a note of how many were lost follows them. What one
//! worker tells arrives in the order in which it told it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mio::Waker;

use super::live::Told;
use crate::ids::WorkerId;
use crate::limits;

/// The piles of all workers.
#[derive(Debug)]
pub struct Door {
    piles: Vec<Mutex<Pile>>,
    /// Something lies there: looked at without a lock.
    waiting: AtomicBool,
    waker: Arc<Waker>,
}

#[derive(Debug, Default)]
struct Pile {
    told: Vec<Told>,
    news_count: usize,
    /// Events and steps that came after the last that found room.
    lost: (u64, u64),
}

impl Pile {
    fn push(&mut self, told: Told) {
        let (news, step) = match &told {
            Told::News(_) | Told::Noticed(_) => (1, 0),
            Told::Step(_) => (0, 1),
            Told::Answer(..) | Told::Lost(..) => return self.told.push(told),
        };
        if self.news_count >= limits::NEWS_PER_WORKER_MAX {
            self.lost = (self.lost.0 + news, self.lost.1 + step);
            return;
        }
        self.news_count += 1;
        self.told.push(told);
    }
}

impl Door {
    /// Nothing told yet; `waker` is the control loop's.
    pub(super) fn new(workers_count: usize, waker: Arc<Waker>) -> Self {
        let piles = (0..workers_count).map(|_| Mutex::default()).collect();
        Self { piles, waiting: AtomicBool::new(false), waker }
    }

    /// Puts what a worker has to tell on its pile. Gives how many events and steps found no room.
    pub(super) fn tell(&self, worker: WorkerId, told: &mut Vec<Told>) -> u64 {
        let Some(pile) = self.piles.get(usize::from(worker.0)) else { return 0 };
        let mut pile = pile.lock().unwrap_or_else(PoisonError::into_inner);
        let before = pile.lost.0 + pile.lost.1;
        told.drain(..).for_each(|told| pile.push(told));
        let lost = (pile.lost.0 + pile.lost.1).saturating_sub(before);
        drop(pile);
        if !self.waiting.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
            && error.kind() != io::ErrorKind::WouldBlock
        {
            log::error!("the control loop could not be woken: error=\"{error}\"");
        }
        lost
    }

    /// Takes what was told, worker by worker.
    pub fn take(&self, mut hear: impl FnMut(WorkerId, Told)) {
        if !self.waiting.load(Ordering::Acquire) || !self.waiting.swap(false, Ordering::AcqRel) {
            return;
        }
        for (worker, pile) in (0_u16..).map(WorkerId).zip(&self.piles) {
            let taken = std::mem::take(&mut *pile.lock().unwrap_or_else(PoisonError::into_inner));
            taken.told.into_iter().for_each(|told| hear(worker, told));
            if taken.lost != (0, 0) {
                hear(worker, Told::Lost(taken.lost.0, taken.lost.1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Token};

    use super::*;
    use crate::proxy::live::{Answer, QuestionId, TraceStep, Traced};
    use crate::proxy::session::Stage;

    fn step() -> Told {
        Told::Step(Box::new(TraceStep {
            session: crate::ids::SessionId::from_u64(1),
            elapsed: std::time::Duration::ZERO,
            stage: Stage::Relay,
            what: Traced::Stage,
        }))
    }

    fn taken(door: &Door) -> Vec<(u16, String)> {
        let mut taken = Vec::new();
        door.take(|worker, told| {
            let name = match told {
                Told::Answer(id, _) => format!("answer {}", id.0),
                Told::Step(_) => "step".to_owned(),
                Told::News(_) | Told::Noticed(_) => "news".to_owned(),
                Told::Lost(news, steps) => format!("lost {news} {steps}"),
            };
            taken.push((worker.0, name));
        });
        taken
    }

    #[test]
    fn steps_beyond_the_bound_are_counted_and_answers_are_not_lost() {
        let poll = Poll::new().unwrap();
        let door = Door::new(2, Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        let mut steps: Vec<_> = (0..limits::NEWS_PER_WORKER_MAX + 3).map(|_| step()).collect();
        steps.push(Told::Answer(QuestionId(7), Answer::Done));
        assert_eq!(door.tell(WorkerId(1), &mut steps), 3);
        assert!(steps.is_empty());
        assert_eq!(door.tell(WorkerId(1), &mut vec![step()]), 1);
        assert_eq!(door.tell(WorkerId(0), &mut vec![step()]), 0, "each worker has its own pile");
        let found = taken(&door);
        assert_eq!(found.first().unwrap(), &(0, "step".to_owned()));
        assert_eq!(found.len(), 1 + limits::NEWS_PER_WORKER_MAX + 2);
        let tail: Vec<_> = found.iter().rev().take(2).rev().collect();
        assert_eq!(tail, [&(1, "answer 7".to_owned()), &(1, "lost 0 4".to_owned())]);
        assert!(taken(&door).is_empty());
        assert_eq!(door.tell(WorkerId(1), &mut vec![step()]), 0, "there is room again");
    }
}
