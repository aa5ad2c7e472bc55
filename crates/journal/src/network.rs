//! The way to other masters, of which there are none yet.

use std::{future::Future, io};

use openraft::{
    RaftNetwork, RaftNetworkFactory, Snapshot,
    error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};

use crate::{
    machine::StateMachine,
    raft::{Node, NodeId, Types, Vote},
};

/// Reaches nobody: a journal has one voter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoNetwork;

impl<M: StateMachine> RaftNetworkFactory<Types<M>> for NoNetwork {
    type Network = Self;

    async fn new_client(&mut self, _: NodeId, _: &Node) -> Self {
        Self
    }
}

impl<M: StateMachine> RaftNetwork<Types<M>> for NoNetwork {
    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types<M>>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RPCError<NodeId, Node, RaftError<NodeId>>> {
        Err(unreachable().into())
    }

    async fn vote(
        &mut self,
        _: VoteRequest<NodeId>,
        _: RPCOption,
    ) -> Result<VoteResponse<NodeId>, RPCError<NodeId, Node, RaftError<NodeId>>> {
        Err(unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _: Vote,
        _: Snapshot<Types<M>>,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<Types<M>, Fatal<NodeId>>> {
        Err(unreachable().into())
    }
}

fn unreachable() -> Unreachable {
    Unreachable::new(&io::Error::other("this release runs one master"))
}
