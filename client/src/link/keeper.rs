//! The task that keeps a link: it owns the association, always reads, and connects again where that is wanted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipo_protocol::Version;
use pipo_protocol::v2::messages::{Nothing, NoticeKind};
use pipo_protocol::v2::{Reply, Request, Role};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::asks::{Asks, Question, Sink, Start, Weight};
use super::association::{AskId, Association, Said};
use super::carrier::Carrier;
use super::login::{self, LoggedIn};
use super::pipeline::Pipeline;
use super::{AfterLoss, ConnectError, Credentials, News, RequestError, Server, Target, dial, limits};

/// What the link asks of its keeper. The queue has no bound of its own: there is one order for each thing that a
/// caller of ours does, and asks are bounded when they are taken in.
#[derive(Debug)]
pub(super) enum Order {
    /// Asks.
    Ask(AskId, Question, Sink),
    /// An item was displayed.
    Displayed(AskId, Weight),
    /// Nobody waits any more.
    Abandon(AskId),
    /// Leaves; answers when it is done.
    Goodbye(oneshot::Sender<()>),
}

/// What the link and its keeper both see.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    server: Server,
    role: Role,
    /// Why there is no association now.
    gone: Option<String>,
}

/// The keeper's own question about the role of its user.
const OWN: AskId = AskId(0);

/// One association after its login.
struct Life {
    carrier: Carrier,
    outgoing: VecDeque<Vec<u8>>,
    dialogue: Dialogue,
    number: u32,
    began: Instant,
}

enum Dialogue {
    V1(Pipeline),
    V2(Association),
}

/// Why an association is not served any longer.
enum Over {
    /// It was lost.
    Lost(String),
    /// The server broke the protocol.
    Violated(String),
    /// Nobody needs it; somebody may wait until it is closed.
    Left(Option<oneshot::Sender<()>>),
}

/// See the module's head.
pub(super) struct Keeper {
    target: Target,
    credentials: Credentials,
    after_loss: AfterLoss,
    orders: mpsc::UnboundedReceiver<Order>,
    news: mpsc::Sender<News>,
    shared: Arc<Shared>,
    asks: Asks,
    lives: u32,
    /// When the server started, where it told us: numbers of events are good for one start.
    started_unix_ms: Option<u64>,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn server(&self) -> Server {
        self.state().server
    }

    pub(super) fn role(&self) -> Role {
        self.state().role
    }

    /// Why there is no association now; `None`: there is one.
    pub(super) fn gone(&self) -> Option<String> {
        self.state().gone
    }
}

/// Connects and logs in, within the target's limit.
async fn connect(target: &Target, credentials: &Credentials) -> Result<LoggedIn, ConnectError> {
    let connecting = async {
        let carrier = dial::dial(target).await?;
        match target.version {
            Version::V1 => login::version_1(carrier, credentials).await,
            Version::V2 => login::version_2(carrier, credentials).await,
            Version::Unsupported(version) => Err(ConnectError::Version(version)),
        }
    };
    let late = |_| ConnectError::TimedOut { server: target.to_string(), limit: target.connect_limit };
    tokio::time::timeout(target.connect_limit, connecting).await.map_err(late)?
}

impl Keeper {
    /// Connects, and starts the task that keeps the link until it is left or lost for good.
    pub(super) async fn start(
        target: &Target,
        credentials: &Credentials,
        after_loss: AfterLoss,
        orders: mpsc::UnboundedReceiver<Order>,
        news: mpsc::Sender<News>,
    ) -> Result<Arc<Shared>, ConnectError> {
        let mut logged_in = connect(target, credentials).await?;
        let started_unix_ms = match after_loss {
            AfterLoss::End => None,
            AfterLoss::Return => started(&mut logged_in, target.reply_limit).await?,
        };
        let state = State { server: logged_in.server.clone(), role: logged_in.role, gone: None };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let mut keeper = Self {
            target: target.clone(),
            credentials: credentials.clone(),
            after_loss,
            orders,
            news,
            shared: Arc::clone(&shared),
            asks: Asks::default(),
            lives: 0,
            started_unix_ms,
        };
        let life = keeper.live(logged_in);
        tokio::spawn(keeper.run(life));
        Ok(shared)
    }

    fn live(&mut self, logged_in: LoggedIn) -> Life {
        self.lives += 1;
        let LoggedIn { stream, limits, request_last, .. } = logged_in;
        let dialogue = match limits {
            None => Dialogue::V1(Pipeline::new(stream.arrived)),
            Some(limits) => Dialogue::V2(Association::new(stream.arrived, request_last, &limits)),
        };
        let began = Instant::now();
        Life { carrier: stream.carrier, outgoing: stream.outgoing, dialogue, number: self.lives, began }
    }

    async fn run(mut self, mut life: Life) {
        let mut pause = Duration::ZERO;
        loop {
            // An association that lasted says that all is well again.
            let lasted = |life: &Life| life.began.elapsed() > limits::BACKOFF_MAX;
            let over = self.serve(&mut life).await;
            let error = match over {
                Over::Left(done) => {
                    life.carrier.close(life.outgoing).await;
                    if let Some(done) = done {
                        // Who waited for it may have gone.
                        let _gone = done.send(());
                    }
                    return;
                }
                Over::Lost(reason) => RequestError::Lost(reason),
                Over::Violated(reason) => RequestError::Protocol(reason),
            };
            pause = if lasted(&life) { Duration::ZERO } else { pause };
            drop(life);
            let reason = error.to_string();
            self.shared.change(|state| state.gone = Some(reason.clone()));
            self.tell(News::Lost(reason));
            // A server that breaks the protocol once will do so again.
            if self.after_loss == AfterLoss::End || matches!(error, RequestError::Protocol(_)) {
                return self.give_up(&error);
            }
            self.asks.fail_unrepeatable(&error);
            match self.come_back(&mut pause).await {
                Ok(Some(back)) => life = back,
                Ok(None) => return,
                Err(error) => {
                    self.shared.change(|state| state.gone = Some(error.to_string()));
                    self.tell(News::GaveUp(error.to_string()));
                    return self.give_up(&RequestError::Lost(error.to_string()));
                }
            }
        }
    }

    /// Fails everything that waits, and what comes until the link is dropped.
    fn give_up(&mut self, error: &RequestError) {
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            if let Order::Ask(id, question, sink) = order {
                self.asks.add(id, question, sink);
            }
        }
        self.asks.fail_all(error);
    }

    /// Notices and news wait in a bounded queue; nobody has to read them.
    fn tell(&self, news: News) {
        if let Err(error) = self.news.try_send(news) {
            log::debug!("news was dropped: {error}");
        }
    }

    // ---- while there is an association -----------------------------------------------------------------------

    async fn serve(&mut self, life: &mut Life) -> Over {
        // What arrived behind the login.
        if let Err(over) = self.hear(life, &[]) {
            return over;
        }
        loop {
            while let Some((id, question)) = self.asks.next_unsent() {
                if let Err(error) = life.ask(id, &question) {
                    self.asks.end(id, Err(error));
                }
            }
            if life.outgoing.len() > limits::OUTGOING_MAX {
                return Over::Lost("the server takes nothing any more".to_owned());
            }
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Goodbye(done)) => {
                        life.leave().await;
                        return Over::Left(Some(done));
                    }
                    Some(order) => self.follow(order, Some(life)),
                    // Every handle is gone.
                    None => return Over::Left(None),
                },
                octets = life.carrier.turn(&mut life.outgoing) => match octets {
                    Ok(octets) => if let Err(over) = self.hear(life, &octets) {
                        return over;
                    },
                    Err(ended) => return Over::Lost(ended.to_string()),
                },
            }
        }
    }

    /// Does what is ordered, but for leaving.
    fn follow(&mut self, order: Order, life: Option<&mut Life>) {
        match order {
            Order::Ask(id, question, sink) => self.asks.add(id, question, sink),
            Order::Displayed(id, weight) => {
                self.asks.displayed(id, weight.bytes);
                if let Some(life) = life.filter(|life| life.number == weight.life) {
                    life.displayed(id, weight.bytes);
                }
            }
            Order::Abandon(id) => {
                self.asks.remove(id);
                if let Some(life) = life {
                    life.cancel(id);
                }
            }
            Order::Goodbye(_) => {}
        }
    }

    fn hear(&mut self, life: &mut Life, octets: &[u8]) -> Result<(), Over> {
        match &mut life.dialogue {
            Dialogue::V1(pipeline) => {
                let mut replies = Vec::new();
                let heard = pipeline.receive(octets, &mut replies);
                replies.into_iter().for_each(|(id, reply)| self.asks.answer_v1(id, reply));
                heard.map_err(Over::Violated)
            }
            Dialogue::V2(association) => {
                let mut said = Vec::new();
                let heard = association.receive(octets, &mut said);
                for said in said {
                    match said {
                        Said::Goodbye(reason) => return Err(Over::Lost(reason)),
                        Said::Notice(event) => self.note(life, *event),
                        Said::Reply(OWN, Reply::Statistics(own)) => {
                            self.shared.change(|state| state.role = own.user.role);
                        }
                        Said::Reply(..)
                        | Said::Part { .. }
                        | Said::Subscribed { .. }
                        | Said::Event { .. }
                        | Said::Ended(..) => self.asks.pass(life.number, said),
                    }
                }
                heard.map_err(Over::Violated)
            }
        }
    }

    fn note(&mut self, life: &mut Life, event: pipo_protocol::v2::events::Event) {
        if event.notice.as_ref().is_some_and(|notice| notice.kind == NoticeKind::RoleChanged) {
            // The notice does not name the new role, but one's own statistics do.
            let asked = life.ask(OWN, &Question::V2(Box::new(Request::Statistics(Nothing {}))));
            if let Err(error) = asked {
                log::debug!("the new role is not known: error=\"{error}\"");
            }
        }
        self.tell(News::Notice(Box::new(event)));
    }

    // ---- while there is none -----------------------------------------------------------------------------------

    /// Connects again, as often as it takes. `None`: nobody needs it any more. Errors: it makes no sense to try on.
    async fn come_back(&mut self, pause: &mut Duration) -> Result<Option<Life>, ConnectError> {
        loop {
            let (target, credentials) = (self.target.clone(), self.credentials.clone());
            let wait = *pause;
            *pause = (*pause * 2).clamp(limits::BACKOFF_MIN, limits::BACKOFF_MAX);
            if !wait.is_zero() {
                self.tell(News::Waiting(wait));
            }
            let connecting = async {
                tokio::time::sleep(wait).await;
                let mut logged_in = connect(&target, &credentials).await?;
                let started = started(&mut logged_in, target.reply_limit).await?;
                Ok::<_, ConnectError>((logged_in, started))
            };
            tokio::pin!(connecting);
            let connected = loop {
                tokio::select! {
                    connected = &mut connecting => break connected,
                    order = self.orders.recv() => match order {
                        Some(Order::Goodbye(done)) => {
                            let _gone = done.send(());
                            return Ok(None);
                        }
                        Some(order) => self.follow(order, None),
                        None => return Ok(None),
                    },
                }
            };
            match connected {
                Ok((logged_in, started)) => return Ok(Some(self.resume(logged_in, started))),
                Err(
                    error @ (ConnectError::LoginFailed(_)
                    | ConnectError::Impostor
                    | ConnectError::Version(_)
                    | ConnectError::Protocol(_)),
                ) => return Err(error),
                Err(error) => self.shared.change(|state| state.gone = Some(error.to_string())),
            }
        }
    }

    fn resume(&mut self, logged_in: LoggedIn, started: Option<u64>) -> Life {
        let same = started.is_some() && started == self.started_unix_ms;
        self.started_unix_ms = started;
        self.shared.change(|state| {
            *state = State { server: logged_in.server.clone(), role: logged_in.role, gone: None };
        });
        self.asks.continue_from_last(if same { Start::Same } else { Start::Anew });
        self.tell(News::Back);
        self.live(logged_in)
    }
}

/// When the server started, where the role may know.
async fn started(logged_in: &mut LoggedIn, limit: Duration) -> Result<Option<u64>, ConnectError> {
    if logged_in.server.version != Version::V2 || !logged_in.role.includes(Role::Observer) {
        return Ok(None);
    }
    logged_in.request_last += 1;
    let asking = logged_in.stream.exchange(logged_in.request_last, &Request::ServerInfo(Nothing {}));
    match tokio::time::timeout(limit, asking).await {
        Ok(Ok((_, _, Reply::ServerInfo(info)))) => Ok(Some(info.started_unix_ms)),
        Ok(Ok(_)) => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ConnectError::Closed(format!("no answer within {limit:?}"))),
    }
}

impl Life {
    fn ask(&mut self, id: AskId, question: &Question) -> Result<(), RequestError> {
        match (&mut self.dialogue, question) {
            (Dialogue::V1(pipeline), Question::V1(request)) => {
                pipeline.begin(id, request, &mut self.outgoing)
            }
            (Dialogue::V2(association), Question::V2(request)) => {
                association.begin(id, request, &mut self.outgoing)
            }
            (Dialogue::V1(_), Question::V2(_)) => Err(RequestError::Version(1)),
            (Dialogue::V2(_), Question::V1(_)) => Err(RequestError::Version(2)),
        }
    }

    fn cancel(&mut self, id: AskId) {
        match &mut self.dialogue {
            Dialogue::V1(pipeline) => pipeline.cancel(id),
            Dialogue::V2(association) => association.cancel(id, &mut self.outgoing),
        }
    }

    /// Says goodbye and lets the server close, where the version has a word for it.
    async fn leave(&mut self) {
        let Dialogue::V2(association) = &mut self.dialogue else { return };
        association.goodbye(&mut self.outgoing);
        let closed = async { while self.carrier.turn(&mut self.outgoing).await.is_ok() {} };
        if tokio::time::timeout(limits::CLOSE_TIME_MAX, closed).await.is_err() {
            log::debug!("the server did not close after goodbye");
        }
    }

    fn displayed(&mut self, id: AskId, bytes: usize) {
        match &mut self.dialogue {
            Dialogue::V1(_) => {}
            Dialogue::V2(association) => association.displayed(id, bytes, &mut self.outgoing),
        }
    }
}
