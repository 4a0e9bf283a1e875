//! Answers by name and family, for as long as they hold and a while longer. Pure, one for each worker.
//!
//! A hit copies an `Arc` and sets a bit. Room in the full cache is made by CLOCK: the hand clears the bits of
//! entries used since it last came by and takes the first without one, so that an insertion costs O(1) over
//! time. Expired answers stay until then, for they may be all there is (RFC 8767).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{DomainName, Family, Outcome};
use crate::limits::{
    CACHE_ENTRIES_PER_WORKER_MAX, CACHE_FAILURE_TTL, CACHE_PLAIN_TTL_MAX, CACHE_STALE_MAX, CACHE_STALE_TTL,
};

/// Who gave an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The relay.
    Doh,
    /// Plain DNS where it is the chosen way.
    Plain,
    /// Plain DNS in place of the relay. Such an answer lives shortly, and dies when the relay comes back,
    /// that is when the epoch is not this one any more.
    Substitute {
        /// The epoch of [`super::health::Health`] when the answer came.
        epoch: u64,
    },
    /// Nobody: the failure itself is remembered for a moment (RFC 9520).
    Failure,
}

/// What a cache hit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Within its TTL.
    Fresh,
    /// Past its TTL, served because nothing else answered.
    Stale,
}

/// One cached answer, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntryView {
    /// The name asked.
    pub name: DomainName,
    /// The family asked.
    pub family: Family,
    /// The answer.
    pub outcome: Outcome,
    /// How long it will still be served without asking.
    pub ttl_left: Duration,
    /// Who gave it.
    pub source: Source,
    /// Whether it is past its TTL.
    pub freshness: Freshness,
}

/// An entry, and its place on the clock.
#[derive(Debug)]
struct Entry {
    name: DomainName,
    family: Family,
    outcome: Outcome,
    source: Source,
    freshness: Freshness,
    served_until: Instant,
    stale_until: Instant,
    used: bool,
}

/// The cache of one worker.
#[derive(Debug)]
pub struct Cache {
    /// Where the entry of a name stands, by family.
    places: [HashMap<DomainName, usize>; 2],
    slots: Vec<Option<Entry>>,
    free: Vec<usize>,
    hand: usize,
    entries_count_max: usize,
}

/// What an insertion did to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Nothing.
    Alone,
    /// One entry was dropped for it.
    Evicting,
}

impl Default for Cache {
    fn default() -> Self {
        Self::with_entries_max(CACHE_ENTRIES_PER_WORKER_MAX)
    }
}

impl Cache {
    /// A cache of at most that many entries, at least one.
    #[must_use]
    pub fn with_entries_max(entries_count_max: usize) -> Self {
        Self {
            places: [HashMap::new(), HashMap::new()],
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            entries_count_max: entries_count_max.max(1),
        }
    }

    /// The answer that may be served now.
    pub fn hit(
        &mut self,
        name: &DomainName,
        family: Family,
        now: Instant,
        epoch: u64,
    ) -> Option<(Outcome, Freshness)> {
        let entry = self.entry(name, family)?;
        if !entry.is_servable(now, epoch) {
            return None;
        }
        entry.used = true;
        Some((entry.outcome.clone(), entry.freshness))
    }

    /// The answer to serve when nobody else has one: addresses less than [`CACHE_STALE_MAX`] past their TTL.
    /// They are then hits for [`CACHE_STALE_TTL`], so that what fails is not asked for every session.
    pub fn revive(&mut self, name: &DomainName, family: Family, now: Instant, epoch: u64) -> Option<Outcome> {
        let entry = self.entry(name, family)?;
        if now >= entry.stale_until || !entry.source.holds(epoch) {
            return None;
        }
        entry.freshness = Freshness::Stale;
        entry.served_until = (now + CACHE_STALE_TTL).min(entry.stale_until);
        entry.used = true;
        Some(entry.outcome.clone())
    }

    /// Remembers an answer for `ttl`. One of TTL 0 replaces what was there by nothing, and so does in effect
    /// a substitute whose epoch is over.
    pub fn insert(
        &mut self,
        name: &DomainName,
        family: Family,
        outcome: Outcome,
        source: Source,
        ttl: Duration,
        now: Instant,
    ) -> Inserted {
        let ttl = match source {
            Source::Doh | Source::Plain => ttl,
            Source::Substitute { .. } => ttl.min(CACHE_PLAIN_TTL_MAX),
            Source::Failure => ttl.min(CACHE_FAILURE_TTL),
        };
        if ttl.is_zero() {
            self.remove(name, family);
            return Inserted::Alone;
        }
        let may_go_stale =
            matches!(outcome, Outcome::Addresses(_)) && matches!(source, Source::Doh | Source::Plain);
        let served_until = now + ttl;
        let entry = Entry {
            name: name.clone(),
            family,
            outcome,
            source,
            freshness: Freshness::Fresh,
            served_until,
            stale_until: if may_go_stale { served_until + CACHE_STALE_MAX } else { served_until },
            used: false,
        };
        if let Some(old) = self.entry(name, family) {
            *old = entry;
            return Inserted::Alone;
        }
        let (place, inserted) = self.free_place();
        if let Some(places) = self.places.get_mut(family as usize) {
            places.insert(name.clone(), place);
        }
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = Some(entry);
        }
        inserted
    }

    /// Drops the entries of one name, or all. Says how many there were.
    pub fn flush(&mut self, name: Option<&DomainName>) -> usize {
        if let Some(name) = name {
            return [Family::V4, Family::V6].into_iter().filter(|&family| self.remove(name, family)).count();
        }
        let dropped = self.len();
        *self = Self::with_entries_max(self.entries_count_max);
        dropped
    }

    /// How many entries there are, expired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What would be served now, in no order: of the places from `start` on, at most `count` of them. `None`
    /// behind the last place.
    pub fn entries(
        &self,
        start: usize,
        count: usize,
        now: Instant,
        epoch: u64,
    ) -> Option<impl Iterator<Item = CacheEntryView>> {
        let slots = self.slots.get(start..).filter(|rest| !rest.is_empty())?.iter().take(count);
        Some(slots.flatten().filter_map(move |entry| entry.view(now, epoch)))
    }

    /// What would be served now of one name, IPv4 before IPv6.
    pub fn entries_of(
        &self,
        name: &DomainName,
        now: Instant,
        epoch: u64,
    ) -> impl Iterator<Item = CacheEntryView> {
        let places = self.places.iter().filter_map(|places| places.get(name));
        places
            .filter_map(|place| self.slots.get(*place)?.as_ref())
            .filter_map(move |entry| entry.view(now, epoch))
    }

    fn entry(&mut self, name: &DomainName, family: Family) -> Option<&mut Entry> {
        let place = *self.places.get(family as usize)?.get(name)?;
        self.slots.get_mut(place)?.as_mut()
    }

    fn remove(&mut self, name: &DomainName, family: Family) -> bool {
        let place = self.places.get_mut(family as usize).and_then(|places| places.remove(name));
        let Some(place) = place else { return false };
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = None;
            self.free.push(place);
        }
        true
    }

    /// A place without an entry: one never used, one given back, or the one the hand takes.
    fn free_place(&mut self) -> (usize, Inserted) {
        if let Some(place) = self.free.pop() {
            return (place, Inserted::Alone);
        }
        if self.slots.len() < self.entries_count_max {
            self.slots.push(None);
            return (self.slots.len() - 1, Inserted::Alone);
        }
        loop {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            // Without a free place every slot holds an entry; should one not, it is the place looked for.
            let Some(entry) = self.slots.get_mut(place).and_then(Option::as_mut) else {
                return (place, Inserted::Alone);
            };
            if !std::mem::take(&mut entry.used) {
                if let Some(places) = self.places.get_mut(entry.family as usize) {
                    places.remove(&entry.name);
                }
                return (place, Inserted::Evicting);
            }
        }
    }
}

impl Entry {
    /// For people; `None` where it is not served any more.
    fn view(&self, now: Instant, epoch: u64) -> Option<CacheEntryView> {
        self.is_servable(now, epoch).then(|| CacheEntryView {
            name: self.name.clone(),
            family: self.family,
            outcome: self.outcome.clone(),
            ttl_left: self.served_until.saturating_duration_since(now),
            source: self.source,
            freshness: self.freshness,
        })
    }

    fn is_servable(&self, now: Instant, epoch: u64) -> bool {
        now < self.served_until && self.source.holds(epoch)
    }
}

impl Source {
    fn holds(self, current_epoch: u64) -> bool {
        match self {
            Self::Substitute { epoch } => epoch == current_epoch,
            Self::Doh | Self::Plain | Self::Failure => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> DomainName {
        DomainName::parse(text.as_bytes()).unwrap()
    }

    fn addresses(last: u8) -> Outcome {
        Outcome::Addresses(Arc::from([IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))]))
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_is_served_until_its_ttl_has_passed_and_only_to_its_family() {
        let (mut cache, now, host) = (Cache::default(), Instant::now(), name("host.example"));
        cache.insert(&host, Family::V4, addresses(1), Source::Doh, 10 * SECOND, now);
        assert_eq!(cache.hit(&host, Family::V4, now + 9 * SECOND, 0), Some((addresses(1), Freshness::Fresh)));
        assert_eq!(cache.hit(&host, Family::V4, now + 10 * SECOND, 0), None);
        assert_eq!(cache.hit(&host, Family::V6, now, 0), None);
        assert_eq!(cache.hit(&name("other.example"), Family::V4, now, 0), None);
    }

    #[test]
    fn an_answer_of_ttl_zero_is_not_kept_and_removes_the_one_before() {
        let (mut cache, now, host) = (Cache::default(), Instant::now(), name("host.example"));
        cache.insert(&host, Family::V4, addresses(1), Source::Doh, SECOND, now);
        cache.insert(&host, Family::V4, addresses(2), Source::Doh, Duration::ZERO, now);
        assert_eq!(cache.hit(&host, Family::V4, now, 0), None);
        assert!(cache.is_empty());
    }

    #[test]
    fn only_addresses_of_the_chosen_source_are_revived_for_a_day_and_served_for_half_a_minute() {
        let now = Instant::now();
        let after = now + 2 * SECOND;
        let cases = [
            (addresses(1), Source::Doh, true),
            (addresses(1), Source::Plain, true),
            (addresses(1), Source::Substitute { epoch: 0 }, false),
            (Outcome::NotFound, Source::Doh, false),
            (Outcome::Failed, Source::Failure, false),
        ];
        for (outcome, source, expected) in cases {
            let (mut cache, host) = (Cache::default(), name("host.example"));
            cache.insert(&host, Family::V4, outcome.clone(), source, SECOND, now);
            let too_late = now + SECOND + CACHE_STALE_MAX;
            assert_eq!(cache.revive(&host, Family::V4, too_late, 0), None, "{source:?}");
            let revived = cache.revive(&host, Family::V4, after, 0);
            assert_eq!(revived, expected.then_some(outcome.clone()), "{source:?} {outcome:?}");
            let hit = cache.hit(&host, Family::V4, after + CACHE_STALE_TTL - SECOND, 0);
            assert_eq!(hit, expected.then_some((outcome, Freshness::Stale)));
            assert_eq!(cache.hit(&host, Family::V4, after + CACHE_STALE_TTL, 0), None);
        }
    }

    #[test]
    fn a_substitute_lives_a_minute_and_not_into_the_next_epoch() {
        let (mut cache, now, host) = (Cache::default(), Instant::now(), name("host.example"));
        let source = Source::Substitute { epoch: 3 };
        cache.insert(&host, Family::V4, addresses(1), source, 3600 * SECOND, now);
        assert!(cache.hit(&host, Family::V4, now + 59 * SECOND, 3).is_some());
        assert_eq!(cache.hit(&host, Family::V4, now + 60 * SECOND, 3), None);
        assert_eq!(cache.hit(&host, Family::V4, now, 4), None);
        assert_eq!(cache.entries_of(&host, now, 4).count(), 0);
    }

    #[test]
    fn the_hand_spares_what_was_used_since_it_came_by() {
        let (mut cache, now) = (Cache::with_entries_max(3), Instant::now());
        for host in ["a", "b", "c"] {
            assert_eq!(
                cache.insert(&name(host), Family::V4, addresses(1), Source::Doh, SECOND, now),
                Inserted::Alone
            );
        }
        assert!(cache.hit(&name("a"), Family::V4, now, 0).is_some());
        let inserted = cache.insert(&name("d"), Family::V4, addresses(1), Source::Doh, SECOND, now);
        assert_eq!(inserted, Inserted::Evicting);
        assert!(cache.hit(&name("a"), Family::V4, now, 0).is_some());
        assert_eq!(cache.hit(&name("b"), Family::V4, now, 0), None);
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn flushing_drops_one_name_in_both_families_or_everything() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for (host, family) in [("a", Family::V4), ("a", Family::V6), ("b", Family::V4)] {
            cache.insert(&name(host), family, addresses(1), Source::Doh, SECOND, now);
        }
        assert_eq!(cache.flush(Some(&name("a"))), 2);
        assert_eq!(cache.flush(Some(&name("a"))), 0);
        assert_eq!(cache.flush(None), 1);
        assert!(cache.is_empty());
    }

    #[test]
    fn a_view_tells_what_is_left_of_the_ttl() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.insert(&name("a"), Family::V6, Outcome::NotFound, Source::Plain, 5 * SECOND, now);
        let views: Vec<_> = cache.entries(0, 10, now + 2 * SECOND, 0).unwrap().collect();
        let expected = CacheEntryView {
            name: name("a"),
            family: Family::V6,
            outcome: Outcome::NotFound,
            ttl_left: 3 * SECOND,
            source: Source::Plain,
            freshness: Freshness::Fresh,
        };
        assert_eq!(cache.entries_of(&name("a"), now + 2 * SECOND, 0).collect::<Vec<_>>(), views);
        assert_eq!(views, [expected]);
        assert_eq!(cache.entries(0, 10, now + 5 * SECOND, 0).unwrap().count(), 0);
    }

    #[test]
    fn entries_are_shown_some_at_a_time() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for host in 0..10 {
            cache.insert(&name(&format!("host{host}")), Family::V4, addresses(1), Source::Doh, SECOND, now);
        }
        let mut found: Vec<String> = Vec::new();
        let mut start = 0;
        while let Some(entries) = cache.entries(start, 3, now, 0) {
            let before = found.len();
            found.extend(entries.map(|entry| entry.name.as_str().to_owned()));
            assert!(found.len() - before <= 3);
            start += 3;
        }
        found.sort();
        assert_eq!(found, (0..10).map(|host| format!("host{host}")).collect::<Vec<_>>());
        assert!(Cache::default().entries(0, 3, now, 0).is_none());
    }

    proptest! {
        /// Against a plain map: whatever is hit is what was inserted last, and the bound holds.
        #[test]
        fn it_never_holds_more_than_its_bound_nor_a_wrong_answer(
            steps in prop::collection::vec((0_u8..3, 0_u8..12, any::<u8>()), 1..200)
        ) {
            let (mut cache, now) = (Cache::with_entries_max(5), Instant::now());
            let mut model = HashMap::new();
            for (step, host, value) in steps {
                let host = name(&format!("host{host}"));
                match step {
                    0 => {
                        cache.insert(&host, Family::V4, addresses(value), Source::Doh, SECOND, now);
                        model.insert(host.clone(), value);
                        prop_assert!(cache.hit(&host, Family::V4, now, 0).is_some());
                    }
                    1 => {
                        if let Some((outcome, _)) = cache.hit(&host, Family::V4, now, 0) {
                            prop_assert_eq!(Some(outcome), model.get(&host).map(|&last| addresses(last)));
                        }
                    }
                    _ => {
                        cache.flush(Some(&host));
                        prop_assert_eq!(cache.hit(&host, Family::V4, now, 0), None);
                    }
                }
                prop_assert!(cache.len() <= 5);
                prop_assert_eq!(cache.len(), cache.places.iter().map(HashMap::len).sum::<usize>());
            }
        }
    }
}
