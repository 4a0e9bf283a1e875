//! Names that completion needs and only the server knows: asked when they are wanted, kept for a moment.

use std::sync::mpsc::SyncSender;

use pipo_protocol::Version;
use pipo_protocol::v1;
use pipo_protocol::v2::messages::{
    MetricsRequest, SessionListRequest, SettingGet, SettingKind, SettingListRequest, UserListRequest,
};
use pipo_protocol::v2::{Octets, Reply, Request, Word};
use tokio::time::Instant;

use crate::grammar::Source;
use crate::limits::{LOOKUP_TIME_MAX, NAMES_KEPT, NAMES_KEPT_MAX, NAMES_MAX};
use crate::link::{CREDIT_BYTES, Link};
use crate::output::{name_octets, name_text};

/// What completion wants to know.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Names of what.
    pub(super) source: Source,
    /// The setting whose values are wanted.
    pub(super) of: Option<String>,
    /// How they begin.
    pub(super) prefix: String,
    /// Where the names go.
    pub(super) answer: SyncSender<Vec<String>>,
}

/// Answers of the last moments.
#[derive(Debug, Default)]
pub(super) struct Names {
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    source: Source,
    of: Option<String>,
    prefix: String,
    names: Vec<String>,
    until: Instant,
}

impl Names {
    /// Answers completion. It waits no longer than [`LOOKUP_TIME_MAX`]; what fails is no names.
    pub(super) async fn answer(&mut self, link: &Link, lookup: Lookup) {
        let now = Instant::now();
        self.kept.retain(|kept| kept.until > now);
        let found = self.kept.iter().find(|kept| kept.answers(&lookup)).map(|kept| kept.names.clone());
        let names = match found {
            Some(names) => names,
            None => {
                let asking = ask(link, &lookup);
                let names = tokio::time::timeout(LOOKUP_TIME_MAX, asking).await.ok().flatten();
                let Some(names) = names else {
                    drop(lookup.answer.send(Vec::new()));
                    return;
                };
                self.keep(&lookup, &names, now + NAMES_KEPT);
                names
            }
        };
        // Whoever asked may have waited long enough.
        drop(lookup.answer.send(names));
    }

    fn keep(&mut self, lookup: &Lookup, names: &[String], until: Instant) {
        if self.kept.len() >= NAMES_KEPT_MAX {
            self.kept.remove(0);
        }
        let (source, of, prefix) = (lookup.source, lookup.of.clone(), lookup.prefix.clone());
        self.kept.push(Kept { source, of, prefix, names: names.to_vec(), until });
    }

    /// A command may have changed what there is.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }
}

impl Kept {
    fn answers(&self, lookup: &Lookup) -> bool {
        (self.source, &self.of, &self.prefix) == (lookup.source, &lookup.of, &lookup.prefix)
    }
}

/// Asks the server. `None`: it did not answer, or not this role.
async fn ask(link: &Link, lookup: &Lookup) -> Option<Vec<String>> {
    if link.server().version == Version::V1 {
        return ask_v1(link, lookup.source).await;
    }
    let credit = CREDIT_BYTES;
    let limit = u32::try_from(NAMES_MAX).ok();
    match lookup.source {
        Source::Users => {
            let prefix = name_octets(&lookup.prefix).and_then(Octets::new);
            let request = UserListRequest { credit, user: None, prefix, limit };
            collect(link, Request::UserList(request), |reply, names| {
                if let Reply::UserList(part) = reply {
                    names.extend(part.rows.iter().map(|row| name_text(row.user.as_bytes())));
                }
            })
            .await
        }
        Source::Sessions => {
            let request = SessionListRequest { credit, filter: None, sort: None, descending: None, limit };
            collect(link, Request::SessionList(request), |reply, names| {
                if let Reply::SessionList(part) = reply {
                    names.extend(part.rows.iter().map(|row| format!("{:016x}", row.id)));
                }
            })
            .await
        }
        Source::Settings => {
            let request = SettingListRequest { credit, prefix: Word::new(lookup.prefix.as_str()) };
            collect(link, Request::SettingList(request), |reply, names| {
                if let Reply::SettingList(part) = reply {
                    names.extend(part.rows.iter().map(|row| row.name.as_str().to_owned()));
                }
            })
            .await
        }
        Source::Metrics => {
            let prefix = Word::new(lookup.prefix.as_str());
            let request = MetricsRequest { credit, prefix, per_worker: None, meanings: None };
            collect(link, Request::Metrics(request), |reply, names| {
                if let Reply::Metrics(part) = reply {
                    names.extend(part.rows.iter().map(|row| row.name.as_str().to_owned()));
                }
            })
            .await
        }
        Source::SettingValues => {
            let name = Word::new(lookup.of.as_deref()?)?;
            let reply = link.request(Request::SettingGet(SettingGet { name })).await.ok()?;
            let Reply::SettingGet(reply) = reply else { return None };
            let setting = reply.setting;
            Some(if setting.kind == SettingKind::Switch {
                vec!["on".to_owned(), "off".to_owned()]
            } else if setting.words.is_empty() {
                vec![setting.value.as_str().to_owned()]
            } else {
                setting.words.iter().map(|word| word.as_str().to_owned()).collect()
            })
        }
        Source::Words(_) | Source::Commands | Source::Files | Source::Nothing => Some(Vec::new()),
    }
}

/// Collects names out of a list, at most [`NAMES_MAX`].
async fn collect(
    link: &Link,
    request: Request,
    take: impl Fn(&Reply, &mut Vec<String>),
) -> Option<Vec<String>> {
    let mut parts = link.parts(request).await.ok()?;
    let mut names = Vec::new();
    while let Some(part) = parts.next().await.ok()? {
        take(&part, &mut names);
        if names.len() >= NAMES_MAX {
            names.truncate(NAMES_MAX);
            break;
        }
    }
    Some(names)
}

async fn ask_v1(link: &Link, source: Source) -> Option<Vec<String>> {
    if source != Source::Users {
        return Some(Vec::new());
    }
    let reply = link.ask_v1(v1::Request::Query(v1::Query::ListUsers)).await.ok()?;
    let v1::Reply::Users(users) = reply else { return None };
    Some(users.iter().take(NAMES_MAX).map(|user| name_text(user.name.as_bytes())).collect())
}
