//! Handlers of messages: what does not decode never comes to them.
//!
//! A body that is not the message is answered by ERROR BAD_BODY, with the sentence that says which
//! field is wrong; it counts as a bad frame like every other. Requests with a message that has a
//! [secret](crate::protocol::Secret) field are wiped from memory, as with [`Router::secret`].

use std::rc::Rc;
use std::sync::Arc;

use super::context::{Context, Request};
use super::reply::Reply;
use super::router::Router;
use crate::protocol::{self, BodyError, EncodeError, Message, Reason, encode_message};

impl<S: 'static> Router<S> {
    /// Has a synchronous handler answer the message `M`, under its code. Returns whether the code
    /// was free; if not, the former handler is replaced.
    pub fn message_handler<M, F>(&mut self, handler: F) -> bool
    where
        M: Message,
        F: Fn(&S, Context<'_>, M::In<'_>) -> Reply + Send + Sync + 'static,
    {
        if M::SECRET {
            self.secret(M::CODE);
        }
        self.handler(M::CODE, move |state, context, body| match M::decode(body) {
            Ok(message) => handler(state, context, message),
            Err(error) => Reply::bad_body(&error),
        })
    }

    /// Has an asynchronous handler answer the message `M`, under its code: an
    /// `async |state, request, message| ...`, since the message borrows from the request. Returns
    /// whether the code was free; if not, the former handler is replaced.
    pub fn async_message_handler<M, F>(&mut self, handler: F) -> bool
    where
        M: Message,
        F: AsyncFn(Rc<S>, &Request, M::In<'_>) -> Reply + Send + Sync + 'static,
    {
        if M::SECRET {
            self.secret(M::CODE);
        }
        let handler = Arc::new(handler);
        self.async_handler(M::CODE, move |state, request| {
            let handler = Arc::clone(&handler);
            async move {
                match M::decode(request.body()) {
                    Ok(message) => handler(state, &request, message).await,
                    Err(error) => Reply::bad_body(&error),
                }
            }
        })
    }
}

impl Context<'_> {
    /// Answers with a message, under its own code. Nothing is allocated: the frame goes straight
    /// into the connection's outbound buffer.
    ///
    /// A message that can't be written, or that does not fit a frame of `limits.max_frame_bytes`,
    /// is a failure of the handler: the connection gets ERROR INTERNAL and is closed.
    pub fn reply_message<M: Message>(self, message: &M) -> Reply {
        let start = self.0.out.len();
        let exchange = self.0;
        let mut written = Ok(());
        let reply =
            Context(&mut *exchange).reply_with(M::CODE, |body| written = message.write(body));
        match written {
            Ok(()) => reply,
            Err(error) => {
                exchange.out.truncate(start);
                Reply::unwritable(M::CODE, &error)
            }
        }
    }
}

impl Reply {
    /// Answers with a message, under its own code.
    ///
    /// A message that can't be written, or that does not fit a frame, is a failure of the handler:
    /// the connection gets ERROR INTERNAL and is closed.
    pub fn message<M: Message>(message: &M) -> Reply {
        let mut frame = Vec::new();
        match encode_message(&mut frame, message) {
            Ok(()) => {
                let body = bytes::Bytes::from(frame).slice(protocol::HEADER_BYTES..);
                Reply::with_code(M::CODE, body)
            }
            Err(EncodeError::TooLong(too_long)) => Reply::too_long(too_long.body_bytes),
            Err(EncodeError::Body(error)) => Reply::unwritable(M::CODE, &error),
        }
    }

    fn bad_body(error: &BodyError) -> Reply {
        Reply::error(Reason::BadBody, error.to_string())
    }

    /// What the handler wanted to say can't be said.
    fn unwritable(code: u16, error: &BodyError) -> Reply {
        tracing::error!(
            code,
            %error,
            "a handler's reply can't be written down; its connection is closed"
        );
        let text = format!("the reply of message code {code} can't be written down");
        Reply::error(Reason::Internal, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::router::Handler;
    use crate::handler::{ConnectionId, Content, Exchange};
    use crate::protocol::messages::{Publish, Published, Subscribe};
    use crate::protocol::{HEADER_BYTES, codes};

    fn exchange(code: u16) -> Exchange {
        Exchange {
            connection: ConnectionId {
                shard: 0,
                slot: 0,
                generation: 0,
            },
            code,
            frame_bytes_max: 100,
            out: Vec::from(*b"before"),
            returned: None,
        }
    }

    fn run(router: &Router<u32>, code: u16, body: &[u8]) -> (Content, Vec<u8>) {
        match router.get(code).unwrap() {
            Handler::Sync(handler) | Handler::Secret(handler) => {
                let mut exchange = exchange(code);
                let is_written = handler(&7, &mut exchange, body);
                assert_eq!(is_written, exchange.returned.is_none());
                let content = exchange.returned.map_or(Content::Written, |reply| reply.0);
                (content, exchange.out)
            }
            Handler::Async(handler) => {
                let request = Request {
                    connection: exchange(code).connection,
                    code,
                    body: bytes::Bytes::copy_from_slice(body),
                };
                let reply = futures_lite::future::block_on(handler(Rc::new(7), request));
                (reply.0, Vec::new())
            }
        }
    }

    #[test]
    fn a_handler_gets_the_message_and_answers_with_one() {
        let mut router = Router::<u32>::new();
        router.message_handler::<Publish, _>(|state, context, publish| {
            assert_eq!((publish.topic, publish.payload), ("news", &b"!"[..]));
            context.reply_message(&Published { receivers: *state })
        });
        let (content, out) = run(&router, codes::PUBLISH, b"\x04news!");
        assert!(matches!(content, Content::Written));
        assert_eq!(out[6 + HEADER_BYTES..], [0, 0, 0, 7]);
    }

    #[test]
    fn an_asynchronous_handler_borrows_from_its_request_while_it_waits() {
        let mut router = Router::<u32>::new();
        router.async_message_handler::<Subscribe, _>(async |_state, request, subscribe| {
            futures_lite::future::yield_now().await;
            assert_eq!(request.body(), subscribe.topic.as_bytes());
            Reply::message(&subscribe)
        });
        let (content, _) = run(&router, codes::SUBSCRIBE, b"news");
        let Content::Frame { code, body } = content else {
            panic!("not a frame: {content:?}");
        };
        assert_eq!((code, &body[..]), (Some(codes::SUBSCRIBE), &b"news"[..]));
    }

    #[test]
    fn a_body_that_is_not_the_message_is_answered_with_what_is_wrong() {
        let mut router = Router::<u32>::new();
        router.message_handler::<Publish, _>(|_, _, _| panic!("not to be called"));
        router.async_message_handler::<Subscribe, _>(async |_, _, _| panic!("not to be called"));
        for (code, body, sentence) in [
            (
                codes::PUBLISH,
                &b"\x04new"[..],
                "the topic of Publish takes 4 bytes, but the body has only 3 left",
            ),
            (
                codes::SUBSCRIBE,
                b"\xff",
                "the topic of Subscribe must be UTF-8 text",
            ),
        ] {
            let (content, _) = run(&router, code, body);
            let Content::Error { reason, text } = content else {
                panic!("not an error: {content:?}");
            };
            assert_eq!((reason, &text[..]), (Reason::BadBody, sentence));
        }
    }

    #[test]
    fn a_reply_that_cannot_be_written_is_a_failure_and_leaves_no_trace() {
        let long = "x".repeat(65);
        let message = Subscribe { topic: &long };
        let mut exchange = exchange(codes::SUBSCRIBE);
        let written = Context(&mut exchange).reply_message(&message);
        assert_eq!(exchange.out, b"before");
        for reply in [written, Reply::message(&message)] {
            let reason = match reply.0 {
                Content::Error { reason, .. } => reason,
                other => panic!("not an error: {other:?}"),
            };
            assert_eq!(reason, Reason::Internal);
        }
    }
}
