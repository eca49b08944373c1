//! stub
use super::{Decoder, Garbled, Output};
use crate::event::{Direction, Time};
#[derive(Debug, Default)]
pub(crate) struct Postgres;
impl Postgres { pub(crate) fn new() -> Postgres { Postgres } }
impl Decoder for Postgres {
    fn feed(&mut self, _: Direction, _: Time, _: &[u8], _: &mut Output<'_>) -> Result<(), Garbled> { Err(Garbled("not there")) }
}
