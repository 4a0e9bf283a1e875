//! What callers hold: the link, a list that comes in parts, a subscription.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pipo_protocol::v1;
use pipo_protocol::v2::events::Event;
use pipo_protocol::v2::{Answer, ErrorBody, Reply, Request, Role, Status};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::asks::{Item, Question, Sink, Weight};
use super::association::AskId;
use super::keeper::{Keeper, Order, Shared};
use super::{AfterLoss, ConnectError, Credentials, News, RequestError, Server, Target, limits};

/// A user's association with a server, whichever transport and version; see the module's head.
#[derive(Debug)]
pub struct Link {
    orders: mpsc::UnboundedSender<Order>,
    shared: Arc<Shared>,
    news: Mutex<mpsc::Receiver<News>>,
    /// 0 is the keeper's own.
    ask_next: AtomicU64,
    reply_limit: Duration,
}

/// A list that comes in parts. Dropping it cancels what has not come.
#[derive(Debug)]
pub struct Parts {
    channel: Channel,
    bytes: usize,
    done: bool,
}

/// A subscription. Dropping it ends it.
#[derive(Debug)]
pub struct Follow {
    channel: Channel,
    done: bool,
}

/// What both have.
#[derive(Debug)]
struct Channel {
    items: mpsc::UnboundedReceiver<Item>,
    /// What came before the subscription's reply; bounded by its credit.
    early: VecDeque<Item>,
    waiting: Waiting,
    /// The item that was given out last.
    given: Option<Weight>,
    reply_limit: Duration,
}

/// Tells the keeper, when it is dropped, that nobody waits any more.
#[derive(Debug)]
struct Waiting {
    id: AskId,
    orders: mpsc::UnboundedSender<Order>,
    shared: Arc<Shared>,
    answered: bool,
}

impl Link {
    /// Connects and logs in. The link ends with its association.
    pub async fn connect(target: &Target, credentials: &Credentials) -> Result<Self, ConnectError> {
        Self::start(target, credentials, AfterLoss::End).await
    }

    /// Connects and logs in. When the association is lost, the link connects again, until that makes no sense any
    /// more; [`Link::news`] tells.
    pub async fn connect_for_long(target: &Target, credentials: &Credentials) -> Result<Self, ConnectError> {
        Self::start(target, credentials, AfterLoss::Return).await
    }

    async fn start(
        target: &Target,
        credentials: &Credentials,
        after_loss: AfterLoss,
    ) -> Result<Self, ConnectError> {
        let (orders, ordered) = mpsc::unbounded_channel();
        let (told, news) = mpsc::channel(limits::NEWS_MAX);
        let shared = Keeper::start(target, credentials, after_loss, ordered, told).await?;
        let reply_limit = target.reply_limit;
        Ok(Self { orders, shared, news: Mutex::new(news), ask_next: AtomicU64::new(1), reply_limit })
    }

    /// What the server said of itself.
    #[must_use]
    pub fn server(&self) -> Server {
        self.shared.server()
    }

    /// What the user may do, as of now. In version 1 only administrators log in.
    #[must_use]
    pub fn role(&self) -> Role {
        self.shared.role()
    }

    /// Whether there is an association at the moment.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.gone().is_none()
    }

    /// Asks for what is answered by one reply.
    pub async fn request(&self, request: Request) -> Result<Reply, RequestError> {
        let (sink, answer) = oneshot::channel();
        if !answers(&request, Answer::One) {
            return Err(misuse());
        }
        let waiting = self.ask(Question::V2(Box::new(request)), Sink::One(sink))?;
        waiting.answer(answer, self.reply_limit).await
    }

    /// Asks in version 1.
    pub async fn ask_v1(&self, request: v1::Request) -> Result<v1::Reply, RequestError> {
        let (sink, answer) = oneshot::channel();
        let waiting = self.ask(Question::V1(request), Sink::V1(sink))?;
        waiting.answer(answer, self.reply_limit).await
    }

    /// Asks for a list that comes in parts.
    pub async fn parts(&self, request: Request) -> Result<Parts, RequestError> {
        if !answers(&request, Answer::Parts) {
            return Err(misuse());
        }
        Ok(Parts { channel: self.channel(request)?, bytes: 0, done: false })
    }

    /// Subscribes; when it returns, the subscription stands.
    pub async fn follow(&self, request: Request) -> Result<Follow, RequestError> {
        if !answers(&request, Answer::Subscription) {
            return Err(misuse());
        }
        let mut follow = Follow { channel: self.channel(request)?, done: false };
        let mut early = VecDeque::new();
        loop {
            match follow.channel.next_in_time().await? {
                Item::Opened => break,
                Item::Ended(Err(error)) => return Err(error),
                // Events may come before the reply, and so may the end.
                item @ Item::Event(..) => early.push_back(item),
                item @ Item::Ended(Ok(())) => {
                    early.push_back(item);
                    break;
                }
                Item::Part(..) => return Err(misuse()),
            }
        }
        follow.channel.early = early;
        Ok(follow)
    }

    /// The next event of channel 0. Never comes when there is none.
    pub async fn notice(&self) -> Event {
        loop {
            if let News::Notice(event) = self.news().await {
                return *event;
            }
        }
    }

    /// The next news. Never comes when there is none.
    pub async fn news(&self) -> News {
        match self.news.lock().await.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Leaves in good order: what was answered is read, then the server closes.
    pub async fn goodbye(&self) {
        let (done, left) = oneshot::channel();
        if self.orders.send(Order::Goodbye(done)).is_ok() {
            // An error means that the keeper has gone already.
            drop(left.await);
        }
    }

    fn channel(&self, request: Request) -> Result<Channel, RequestError> {
        let (sink, items) = mpsc::unbounded_channel();
        let waiting = self.ask(Question::V2(Box::new(request)), Sink::Many(sink))?;
        Ok(Channel { items, early: VecDeque::new(), waiting, given: None, reply_limit: self.reply_limit })
    }

    fn ask(&self, question: Question, sink: Sink) -> Result<Waiting, RequestError> {
        let id = AskId(self.ask_next.fetch_add(1, Ordering::Relaxed));
        let (orders, shared) = (self.orders.clone(), Arc::clone(&self.shared));
        let waiting = Waiting { id, orders, shared, answered: false };
        match self.orders.send(Order::Ask(id, question, sink)) {
            Ok(()) => Ok(waiting),
            Err(_) => Err(waiting.lost()),
        }
    }
}

fn answers(request: &Request, answer: Answer) -> bool {
    request.command().row().is_some_and(|row| row.answer == answer)
}

/// Each command has one way to be asked.
fn misuse() -> RequestError {
    let body = ErrorBody::saying("This command is answered in another way.");
    RequestError::Refused { status: Status::Internal, body }
}

impl Parts {
    /// The next part; `None` after the last one. Says that the one before is displayed.
    pub async fn next(&mut self) -> Result<Option<Reply>, RequestError> {
        if self.done {
            return Ok(None);
        }
        self.channel.display();
        match self.channel.next_in_time().await? {
            Item::Part(weight, reply, last) => {
                self.bytes += weight.bytes;
                if self.bytes > limits::LIST_BYTES_MAX {
                    return Err(RequestError::Protocol("a list without end".to_owned()));
                }
                self.channel.given = Some(weight);
                if last {
                    self.done = true;
                    self.channel.waiting.answered = true;
                }
                Ok(Some(*reply))
            }
            Item::Ended(result) => {
                self.done = true;
                result.map(|()| None)
            }
            Item::Opened | Item::Event(..) => Err(misuse()),
        }
    }
}

impl Follow {
    /// The next event, whenever it comes; `None` when the subscription is over. Says that the one before is displayed.
    pub async fn next(&mut self) -> Result<Option<Event>, RequestError> {
        loop {
            if self.done {
                return Ok(None);
            }
            self.channel.display();
            match self.channel.next().await? {
                Item::Event(weight, event) => {
                    self.channel.given = Some(weight);
                    return Ok(Some(*event));
                }
                // Opened again after a loss.
                Item::Opened => {}
                Item::Ended(result) => {
                    self.done = true;
                    return result.map(|()| None);
                }
                Item::Part(..) => return Err(misuse()),
            }
        }
    }
}

impl Channel {
    /// What was given out last is displayed.
    fn display(&mut self) {
        if let Some(weight) = self.given.take().filter(|weight| weight.bytes > 0) {
            // When the keeper has gone, nobody counts credit.
            drop(self.waiting.orders.send(Order::Displayed(self.waiting.id, weight)));
        }
    }

    async fn next(&mut self) -> Result<Item, RequestError> {
        if let Some(item) = self.early.pop_front() {
            return Ok(item);
        }
        let item = self.items.recv().await.ok_or_else(|| self.waiting.lost())?;
        self.waiting.answered |= matches!(item, Item::Ended(_));
        Ok(item)
    }

    async fn next_in_time(&mut self) -> Result<Item, RequestError> {
        match tokio::time::timeout(self.reply_limit, self.next()).await {
            Ok(item) => item,
            Err(_) => Err(self.waiting.late(self.reply_limit)),
        }
    }
}

impl Waiting {
    async fn answer<T>(
        mut self,
        answer: oneshot::Receiver<Result<T, RequestError>>,
        limit: Duration,
    ) -> Result<T, RequestError> {
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => {
                self.answered = true;
                answer.unwrap_or_else(|_| Err(self.lost()))
            }
            Err(_) => Err(self.late(limit)),
        }
    }

    fn lost(&self) -> RequestError {
        RequestError::Lost(self.shared.gone().unwrap_or_else(|| "the link was left".to_owned()))
    }

    /// Without an association the limit is not the server's fault.
    fn late(&self, limit: Duration) -> RequestError {
        self.shared.gone().map_or(RequestError::TimedOut(limit), RequestError::Lost)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered {
            // When the keeper has gone, there is nothing to cancel.
            drop(self.orders.send(Order::Abandon(self.id)));
        }
    }
}
