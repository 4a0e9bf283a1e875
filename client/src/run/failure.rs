//! Why a command was not done, and how pipoctl ends because of it.

use crate::exit::Exit;
use crate::grammar::UsageError;
use crate::link::{ConnectError, RequestError};
use crate::output::{SinkError, safe};

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The line is not of the grammar.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// There is no link.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused, or did not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The server refused, in version 1, which has no sentences.
    #[error("{sentence}")]
    Refused {
        /// How it ends.
        exit: Exit,
        /// What the status means here.
        sentence: String,
    },
    /// An answer of another kind than the request's.
    #[error("the server answered something else than was asked")]
    OtherAnswer,
    /// Output cannot be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A file or the terminal cannot be read.
    #[error("{what}: {error}")]
    Read {
        /// Which.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A person was asked and did not say yes.
    #[error("not done")]
    Declined,
    /// A command for a server, and there is none at the moment.
    #[error("not connected")]
    NotConnected,
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// A usage error with that sentence.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::Usage(UsageError::new(sentence))
    }

    /// How pipoctl ends.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Read { .. } => Exit::Usage,
            Self::Connect(error) => error.exit(),
            Self::Request(error) => error.exit(),
            Self::Refused { exit, .. } => *exit,
            Self::OtherAnswer | Self::NotConnected => Exit::Lost,
            // Nobody reads any more, so nobody misses anything.
            Self::Sink(SinkError::Gone) => Exit::Done,
            Self::Sink(SinkError::Other(_)) | Self::Declined => Exit::Refused,
            Self::Interrupted => Exit::Interrupted,
        }
    }

    /// Whether going on with the next line makes sense.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.exit(), Exit::Lost | Exit::NoConnection | Exit::LoginFailed | Exit::Interrupted)
            || matches!(self, Self::Sink(_))
    }

    /// One line for standard error; none where there is nothing to say.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        let silent = matches!(self, Self::Sink(SinkError::Gone) | Self::Interrupted);
        (!silent).then(|| safe(&self.to_string()).into_owned())
    }
}
