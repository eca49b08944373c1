//! Whoever looks at the bytes of one connection: a decoder, or somebody who wants them all.

use crate::decode::{Conversation, Said};
use crate::event::{ConnectionId, Direction, Ends, Event, Teller, Time, What, Word};
use crate::relay::Options;

/// What is done with bytes on their way, and told of them.
#[derive(Debug)]
pub(crate) struct Observer {
    conversation: Option<Conversation>,
    /// How many bytes were told, by direction; none: nobody wants them.
    told: Option<[u64; 2]>,
    said: Vec<Said>,
}

impl Observer {
    /// For one connection; none if nobody wants to know.
    pub(crate) fn new(options: &Options) -> Option<Box<Observer>> {
        if options.decode.is_none() && !options.bytes {
            return None;
        }
        let conversation = options.decode.as_ref().map(Conversation::new);
        let told = options.bytes.then_some([0; 2]);
        Some(Box::new(Observer { conversation, told, said: Vec::new() }))
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
        self.tell_bytes(at, direction, time, bytes, teller);
        if let Some(conversation) = &mut self.conversation {
            conversation.feed(direction, time, bytes, &mut self.said);
        }
        self.said.drain(..)
    }

    /// How many bytes that come next in a direction nobody looks at.
    pub(crate) fn blind(&self, direction: Direction) -> u64 {
        match &self.conversation {
            Some(conversation) if self.told.is_none() => conversation.blind(direction),
            _ => 0,
        }
    }

    /// So many of them are about to be passed on; gives what was said with them.
    pub(crate) fn pass(&mut self, direction: Direction, time: Time, count: u64) -> std::vec::Drain<'_, Said> {
        if let Some(conversation) = &mut self.conversation {
            conversation.pass(direction, time, count, &mut self.said);
        }
        self.said.drain(..)
    }

    /// Tells bytes and makes nothing of them: those that the tap itself says in the place of a side.
    pub(crate) fn tell_bytes(
        &mut self,
        at: (ConnectionId, Ends),
        direction: Direction,
        time: Time,
        bytes: &[u8],
        teller: &mut Teller,
    ) {
        if let Some(told) = &mut self.told {
            let offset = told[direction.index()];
            told[direction.index()] += bytes.len() as u64;
            tell(at, time, What::Bytes { direction, offset, bytes: bytes.to_vec() }, teller);
        }
    }

    /// Tells an urgent byte that was passed on behind all that was told. A decoder does not see it, as the application that
    /// reads the stream does not.
    pub(crate) fn tell_urgent(
        &mut self,
        at: (ConnectionId, Ends),
        direction: Direction,
        time: Time,
        byte: u8,
        teller: &mut Teller,
    ) {
        if let Some(told) = &mut self.told {
            let offset = told[direction.index()];
            told[direction.index()] += 1;
            tell(at, time, What::Urgent { direction, offset, byte }, teller);
        }
    }

    /// Says that a direction has ended.
    pub(crate) fn finish(
        &mut self,
        at: (ConnectionId, Ends),
        direction: Direction,
        time: Time,
        teller: &mut Teller,
    ) {
        if let Some(told) = &self.told {
            tell(at, time, What::Finished { direction, offset: told[direction.index()] }, teller);
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
