//! stub
use super::{Decoder, Garbled, Output};
use crate::event::{Direction, Time};
#[derive(Debug, Default)]
pub(crate) struct MySql;
impl MySql { pub(crate) fn new() -> MySql { MySql } }
impl Decoder for MySql {
    fn feed(&mut self, _: Direction, _: Time, _: &[u8], _: &mut Output<'_>) -> Result<(), Garbled> { Err(Garbled("not there")) }
}
