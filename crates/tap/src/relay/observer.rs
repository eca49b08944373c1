//! Whoever looks at the bytes of one connection: a decoder, or somebody who wants them all.

use crate::decode::{Conversation, Said};
use crate::event::{ConnectionId, Direction, Ends, Event, Teller, Time, What, Word};
use crate::relay::Options;

/// What is done with bytes on their way, and told of them.
#[derive(Debug)]
pub(crate) struct Observer {
    conversation: Option<Conversation>,
    bytes: bool,
    said: Vec<Said>,
}

impl Observer {
    /// For one connection; none if nobody wants to know.
    pub(crate) fn new(options: &Options) -> Option<Box<Observer>> {
        if options.decode.is_none() && !options.bytes {
            return None;
        }
        let conversation = options.decode.as_ref().map(Conversation::new);
        Some(Box::new(Observer { conversation, bytes: options.bytes, said: Vec::new() }))
    }

    /// Shows it bytes that are about to be passed on; gives what was said in them.
    pub(crate) fn see(
        &mut self,
        at: (ConnectionId, Ends),
        direction: Direction,
        time: Time,
        bytes: &[u8],
        teller: &mut Teller,
    ) -> std::vec::Drain<'_, Said> {
        if self.bytes {
            tell(at, time, What::Bytes { direction, bytes: bytes.to_vec() }, teller);
        }
        if let Some(conversation) = &mut self.conversation {
            conversation.feed(direction, time, bytes, &mut self.said);
        }
        self.said.drain(..)
    }

    /// Says that a direction has ended.
    pub(crate) fn finish(
        &mut self,
        at: (ConnectionId, Ends),
        direction: Direction,
        time: Time,
        teller: &mut Teller,
    ) {
        if self.bytes {
            tell(at, time, What::Finished { direction }, teller);
        }
        if let Some(conversation) = &mut self.conversation {
            conversation.finish(direction, time, &mut self.said);
            for said in self.said.drain(..) {
                tell(at, time, What::Said(said), teller);
            }
        }
    }
}

pub(crate) fn tell((connection, ends): (ConnectionId, Ends), time: Time, what: What, teller: &mut Teller) {
    teller.tell(Word::Event(Event { time, connection, ends, what }));
}
