//! Which users have metrics of their own: the first that had a session, as many as there are places. The others
//! are shown as one, by what the daemon has counted in all and the shown ones have not.

use std::sync::Arc;

use crate::limits::USER_SHARDS_COUNT;
use crate::metrics::exposition::{OTHERS, UserRow};
use crate::metrics::{Counter, Gauge, Metrics, PerUser};
use crate::store::{Directory, User, UserLive, UserName};

/// Values of one user, in the order of [`PerUser::ALL`].
type Values = [u64; PerUser::COUNT];

/// The shown users. Series keep their meaning: a user keeps the place until removed, and the others' totals
/// never go back.
#[derive(Debug, Default)]
pub(super) struct Users {
    places: Vec<Place>,
    places_max: usize,
    /// What users have moved while they had a place that they lost.
    departed: Values,
    /// The others as shown last.
    others: Values,
    /// At the last scrape somebody may have been among the others.
    were_full: bool,
}

#[derive(Debug)]
struct Place {
    name: UserName,
    label: Arc<str>,
    live: Arc<UserLive>,
    /// What was counted among the others before.
    since: Values,
}

/// Whether a search has to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// At that part.
    From(usize),
    /// Nobody can be found any more, or has to be.
    Over,
}

impl Users {
    /// Begins a scrape: users who are gone lose their places, so do those that are too many.
    pub(super) fn begin(&mut self, directory: &Directory, places_max: usize) -> Search {
        self.places_max = places_max;
        let is_here = |place: &Place| {
            let user = directory.find(place.name.as_octets());
            user.is_some_and(|user| Arc::ptr_eq(user.live(), &place.live))
        };
        for (index, place) in std::mem::take(&mut self.places).into_iter().enumerate() {
            if index < places_max && is_here(&place) {
                self.places.push(place);
            } else {
                add(&mut self.departed, &place.moved());
            }
        }
        self.consider(&directory.anonymous());
        self.next(0)
    }

    /// Looks for users in some parts of the directory, from that one on.
    pub(super) fn search(&mut self, directory: &Directory, from: usize, parts: usize) -> Search {
        for part in from..from.saturating_add(parts).min(USER_SHARDS_COUNT) {
            directory.visit_part(part, |user| self.consider(user));
        }
        self.next(from.saturating_add(parts))
    }

    fn next(&self, part: usize) -> Search {
        let over = part >= USER_SHARDS_COUNT || self.places.len() >= self.places_max;
        if over { Search::Over } else { Search::From(part) }
    }

    /// Gives a user a place who had a session and has none, while there is one.
    fn consider(&mut self, user: &Arc<User>) {
        let live = user.live();
        if live.sessions_total() == 0
            || self.places.len() >= self.places_max
            || self.places.iter().any(|place| Arc::ptr_eq(&place.live, live))
        {
            return;
        }
        let since = if self.were_full { values(live) } else { Values::default() };
        let label = label(user.name());
        self.places.push(Place { name: user.name().clone(), label, live: Arc::clone(live), since });
    }

    /// The rows of a scrape whose search is over. None where no user is to be shown.
    pub(super) fn rows(&mut self, metrics: &Metrics) -> Vec<UserRow> {
        if self.places_max == 0 {
            return Vec::new();
        }
        let (mut rows, mut moved) = (Vec::with_capacity(self.places.len() + 1), self.departed);
        let mut sessions = 0;
        for place in &self.places {
            let values = values(&place.live);
            let [now, ..] = values;
            sessions += now;
            add(&mut moved, &place.moved());
            rows.push(UserRow { label: Arc::clone(&place.label), values });
        }
        self.were_full = self.places.len() >= self.places_max;
        if self.were_full {
            let [_, relayed, up, down] = moved;
            let left = |counter, moved| metrics.total(counter).saturating_sub(moved);
            let [_, relayed_before, up_before, down_before] = self.others;
            // A session's bytes reach its user a little later than the sum: those counted there already stay.
            self.others = [
                metrics.gauge(Gauge::SessionsRelaying).saturating_sub(sessions),
                left(Counter::SessionsRelayed, relayed).max(relayed_before),
                left(Counter::BytesUp, up).max(up_before),
                left(Counter::BytesDown, down).max(down_before),
            ];
        } else {
            // Whoever has a session has a place, and the totals stay as they were.
            let [sessions_of_others, ..] = &mut self.others;
            *sessions_of_others = 0;
        }
        rows.push(UserRow { label: OTHERS.into(), values: self.others });
        rows
    }
}

impl Place {
    /// What the user has moved here.
    fn moved(&self) -> Values {
        let mut values = values(&self.live);
        values.iter_mut().zip(self.since).for_each(|(value, since)| *value = value.saturating_sub(since));
        values
    }
}

fn values(live: &UserLive) -> Values {
    let value = |which| match which {
        PerUser::Sessions => u64::from(live.sessions()),
        PerUser::Relayed => live.sessions_total(),
        PerUser::Up => live.bytes_up(),
        PerUser::Down => live.bytes_down(),
    };
    let mut values = Values::default();
    values.iter_mut().zip(PerUser::ALL).for_each(|(to, which)| *to = value(*which));
    values
}

fn add(to: &mut Values, more: &Values) {
    to.iter_mut().zip(more).for_each(|(to, more)| *to = to.saturating_add(*more));
}

/// A name as a label; whoever is called like the others is escaped one character more.
fn label(name: &UserName) -> Arc<str> {
    let shown = name.to_string();
    match shown.strip_prefix('(') {
        Some(rest) if shown == OTHERS => format!("\\x28{rest}").into(),
        Some(_) | None => shown.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::UserSpec;
    use crate::store::{Role, Store, StoreOptions};

    fn store(names: &[&str]) -> Arc<Store> {
        let user = |name: &&str| UserSpec {
            name: name.as_bytes().to_vec(),
            password: b"secret".to_vec(),
            proxy: true,
            admin: false,
            role: Role::User,
        };
        Store::start(names.iter().map(user).collect(), StoreOptions::default()).unwrap()
    }

    /// A session of a user that has ended, counted everywhere.
    fn session(store: &Store, metrics: &Metrics, name: &str, bytes: u64) {
        let user = store.directory().find(name.as_bytes()).unwrap();
        assert!(user.live().open_session(None));
        user.live().add_bytes(bytes, 2 * bytes);
        user.live().close_session();
        let worker = metrics.worker(0).unwrap();
        worker.count(Counter::SessionsRelayed);
        worker.add(Counter::BytesUp, bytes);
        worker.add(Counter::BytesDown, 2 * bytes);
    }

    fn scrape(users: &mut Users, store: &Store, metrics: &Metrics, places_max: usize) -> Vec<(String, u64)> {
        let mut search = users.begin(store.directory(), places_max);
        while let Search::From(part) = search {
            search = users.search(store.directory(), part, 7);
        }
        let up = |row: UserRow| (row.label.to_string(), row.values[PerUser::Up as usize]);
        users.rows(metrics).into_iter().map(up).collect()
    }

    fn shown(rows: &[(&str, u64)]) -> Vec<(String, u64)> {
        rows.iter().map(|(label, up)| ((*label).to_owned(), *up)).collect()
    }

    #[test]
    fn the_first_users_have_places_and_the_rest_is_one() {
        let (store, metrics, mut users) = (store(&["a", "b", "c"]), Metrics::new(2), Users::default());
        assert_eq!(scrape(&mut users, &store, &metrics, 2), shown(&[(OTHERS, 0)]));
        session(&store, &metrics, "c", 10);
        assert_eq!(scrape(&mut users, &store, &metrics, 2), shown(&[("c", 10), (OTHERS, 0)]));
        session(&store, &metrics, "anonymous", 5);
        let two = [("c", 10), ("anonymous", 5), (OTHERS, 0)];
        assert_eq!(scrape(&mut users, &store, &metrics, 2), shown(&two));
        session(&store, &metrics, "a", 100);
        session(&store, &metrics, "b", 1000);
        session(&store, &metrics, "c", 1);
        let three = [("c", 11), ("anonymous", 5), (OTHERS, 1100)];
        assert_eq!(scrape(&mut users, &store, &metrics, 2), shown(&three));
        assert!(scrape(&mut users, &store, &metrics, 0).is_empty(), "nobody is to be shown");
    }

    #[test]
    fn totals_of_the_others_never_go_back_and_never_jump() {
        let (store, metrics, mut users) = (store(&["a", "b"]), Metrics::new(2), Users::default());
        session(&store, &metrics, "a", 10);
        assert_eq!(scrape(&mut users, &store, &metrics, 1), shown(&[("a", 10), (OTHERS, 0)]));
        session(&store, &metrics, "b", 100);
        assert_eq!(scrape(&mut users, &store, &metrics, 1), shown(&[("a", 10), (OTHERS, 100)]));
        // One place more: the user's past stays among the others, what comes does not.
        let both = [("a", 10), ("b", 100), (OTHERS, 100)];
        assert_eq!(scrape(&mut users, &store, &metrics, 2), shown(&both));
        session(&store, &metrics, "b", 7);
        let both = [("a", 10), ("b", 107), (OTHERS, 100)];
        assert_eq!(scrape(&mut users, &store, &metrics, 2), shown(&both));
        // One place less: what the user moved there does not come back.
        assert_eq!(scrape(&mut users, &store, &metrics, 1), shown(&[("a", 10), (OTHERS, 100)]));
        session(&store, &metrics, "b", 3);
        assert_eq!(scrape(&mut users, &store, &metrics, 1), shown(&[("a", 10), (OTHERS, 103)]));
    }

    #[test]
    fn a_user_called_like_the_others_is_told_apart() {
        let name = |text: &str| UserName::new(text.as_bytes()).unwrap();
        assert_eq!(&*label(&name(OTHERS)), "\\x28others)");
        assert_eq!(&*label(&name("(others")), "(others");
    }
}
