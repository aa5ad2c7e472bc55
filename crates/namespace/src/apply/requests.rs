//! Requests that were answered, so that a repetition gets the first answer.

use headpond_types::RequestId;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::{Apply, stop::Stop};
use crate::{
    command::Reply,
    error::TableError,
    header::{pack, unpack},
};

/// How many requests are remembered: the newest. Every change that a client makes is one, and clients repeat them for less than a minute:
/// at 4,000 changes a second these reach back that far. They take about 40 MB of disk.
const REMEMBERED: u64 = if cfg!(test) { 4096 } else { 262_144 };

/// Request id → packed reply.
pub(crate) const REPLIES: TableDefinition<'static, u128, &'static [u8]> = TableDefinition::new("request");
/// Number of the request → its id.
const ORDER: TableDefinition<'static, u64, u128> = TableDefinition::new("request_order");

pub(super) struct Requests<'t> {
    replies: Table<'t, u128, &'static [u8]>,
    order: Table<'t, u64, u128>,
}

impl<'t> Requests<'t> {
    pub(super) fn open(txn: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self { replies: txn.open_table(REPLIES)?, order: txn.open_table(ORDER)? })
    }

    fn find(&self, request: RequestId) -> Result<Option<Reply>, TableError> {
        let row = self.replies.get(request.0)?;
        row.map(|row| unpack("request", &request.0, row.value())).transpose()
    }

    fn remember(&mut self, number: u64, request: RequestId, reply: &Reply) -> Result<(), TableError> {
        self.replies.insert(request.0, pack(reply).as_slice())?;
        self.order.insert(number, request.0)?;
        if let Some(forgotten) = number.checked_sub(REMEMBERED) {
            // A release that remembered fewer has forgotten it already.
            let request = self.order.remove(forgotten)?.map(|request| request.value());
            if let Some(request) = request {
                self.replies.remove(request)?;
            }
        }
        Ok(())
    }
}

impl Apply<'_> {
    /// Does `work` unless `request` was done before; the answer is that of the first time.
    pub(super) fn once(
        &mut self,
        request: RequestId,
        work: impl FnOnce(&mut Self) -> Result<Reply, Stop>,
    ) -> Result<Reply, TableError> {
        if let Some(reply) = self.requests.find(request)? {
            return Ok(reply);
        }
        let reply = match work(self) {
            Ok(reply) => reply,
            Err(Stop::Refused(refusal)) => Reply::Refused(refusal),
            Err(Stop::Failed(error)) => return Err(error),
        };
        self.requests.remember(self.header.next_request, request, &reply)?;
        self.header.next_request += 1;
        self.changed_rows += 2;
        Ok(reply)
    }
}
