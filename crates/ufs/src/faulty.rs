//! Injects faults, for tests: by chance from a seed, or by a script.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream};
use headpond_types::ByteRange;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;

use crate::{
    BodyStream, Key, Op, UfsError, UfsErrorKind, UnderStore,
    around::{Around, Request},
};

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fails before it reaches the store.
    Error(UfsErrorKind),
    /// Fails with `SlowDown` and this pause.
    SlowDown(Duration),
    /// Is carried out, but its answer is lost on the way (`Transient`).
    LostAnswer,
    /// Is carried out, but never answered.
    Silence,
    /// Is answered this much later.
    Latency(Duration),
    /// Is never answered.
    Hang,
    /// The body fails (`Transient`) after so many bytes. Other requests than GET: as `Error(Transient)`.
    BreakBody(u64),
    /// The body ends after so many bytes as if it were whole. Other requests than GET: none.
    CutBody(u64),
    /// The body stops after so many bytes without an end. Other requests than GET: as `Hang`.
    HangBody(u64),
}

#[derive(Debug)]
struct Rule {
    op: Option<Op>,
    probability: f64,
    fault: Fault,
}

struct Plan {
    random: StdRng,
    rules: Vec<Rule>,
    script: VecDeque<(Op, Option<Fault>)>,
}

/// A store with faults. Clones share the plan.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn UnderStore>,
    plan: Arc<Mutex<Plan>>,
}

impl Faulty {
    /// Wraps `inner`, without a fault yet. One seed and one order of requests give the same faults.
    #[must_use]
    pub fn new(inner: Arc<dyn UnderStore>, seed: u64) -> Self {
        let plan = Plan { random: StdRng::seed_from_u64(seed), rules: Vec::new(), script: VecDeque::new() };
        Self { inner, plan: Arc::new(Mutex::new(plan)) }
    }

    /// From now on `fault` meets requests `op` (or all) with `probability` (0 to 1); of several rules the first that hits.
    pub fn chance(&self, op: Option<Op>, probability: f64, fault: Fault) {
        self.plan().rules.push(Rule { op, probability, fault });
    }

    /// The next requests `op` meet these, one each, before any chance; `None` lets one pass.
    pub fn script(&self, op: Op, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.plan().script.extend(faults.into_iter().map(|fault| (op, fault)));
    }

    /// How much of the script for `op` has not been met yet.
    #[must_use]
    pub fn scripted(&self, op: Op) -> usize {
        self.plan().script.iter().filter(|(scripted, _)| *scripted == op).count()
    }

    /// Ends all faults; what hangs goes on hanging.
    pub fn heal(&self) {
        let mut plan = self.plan();
        plan.rules.clear();
        plan.script.clear();
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, op: Op) -> Option<Fault> {
        let mut plan = self.plan();
        if let Some(at) = plan.script.iter().position(|(scripted, _)| *scripted == op) {
            return plan.script.remove(at).and_then(|(_, fault)| fault);
        }
        let Plan { random, rules, .. } = &mut *plan;
        rules
            .iter()
            .filter(|rule| rule.op.is_none_or(|only| only == op))
            .find(|rule| random.random::<f64>() < rule.probability)
            .map(|rule| rule.fault)
    }

    fn error(&self, kind: UfsErrorKind, op: Op, key: &Key) -> UfsError {
        UfsError::new(kind, format!("injected {} of {op} of {}/{key}", kind.name(), self.inner.identity()))
    }

    /// The part of a fault that comes before the request.
    async fn before(&self, fault: Fault, op: Op, key: &Key) -> Result<(), UfsError> {
        match fault {
            Fault::Error(kind) => Err(self.error(kind, op, key)),
            Fault::SlowDown(pause) => Err(self.error(UfsErrorKind::SlowDown, op, key).with_retry_after(Some(pause))),
            Fault::Latency(time) => {
                sleep(time).await;
                Ok(())
            }
            Fault::Hang => std::future::pending().await,
            Fault::LostAnswer | Fault::Silence | Fault::BreakBody(_) | Fault::CutBody(_) | Fault::HangBody(_) => Ok(()),
        }
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Around for Faulty {
    fn inner(&self) -> &dyn UnderStore {
        &*self.inner
    }

    async fn around<'a, T: Send + 'a>(
        &'a self,
        request: Request<'a>,
        send: impl Fn() -> BoxFuture<'a, Result<T, UfsError>> + Send + Sync + 'a,
    ) -> Result<T, UfsError> {
        let fault = match self.next(request.op) {
            None | Some(Fault::CutBody(_)) => return send().await,
            Some(Fault::BreakBody(_)) => Fault::Error(UfsErrorKind::Transient),
            Some(Fault::HangBody(_)) => Fault::Hang,
            Some(fault) => fault,
        };
        self.before(fault, request.op, request.key).await?;
        let answer = send().await;
        if fault == Fault::LostAnswer {
            return Err(self.error(UfsErrorKind::Transient, request.op, request.key));
        }
        if fault == Fault::Silence {
            return std::future::pending().await;
        }
        answer
    }

    async fn around_get<'a>(
        &'a self,
        key: &'a Key,
        range: ByteRange,
        version: &'a str,
    ) -> Result<BodyStream, UfsError> {
        let Some(fault) = self.next(Op::Get) else { return self.inner.get(key, range, version).await };
        self.before(fault, Op::Get, key).await?;
        let body = self.inner.get(key, range, version).await?;
        let broken = self.error(UfsErrorKind::Transient, Op::Get, key);
        match fault {
            Fault::LostAnswer => Err(broken),
            Fault::Silence => std::future::pending().await,
            Fault::CutBody(after) => Ok(first_bytes(body, after)),
            Fault::BreakBody(after) => {
                Ok(first_bytes(body, after).chain(stream::once(async move { Err(broken) })).boxed())
            }
            Fault::HangBody(after) => Ok(first_bytes(body, after).chain(stream::pending()).boxed()),
            Fault::Error(_) | Fault::SlowDown(_) | Fault::Latency(_) | Fault::Hang => Ok(body),
        }
    }
}

/// The first `left` bytes of a body.
fn first_bytes(body: BodyStream, left: u64) -> BodyStream {
    stream::unfold((body, left), |(mut body, left)| async move {
        if left == 0 {
            return None;
        }
        let chunk = body.next().await?.map(|mut chunk| {
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            chunk
        });
        let got = chunk.as_ref().map_or(left, |chunk| chunk.len() as u64);
        Some((chunk, (body, left - got)))
    })
    .boxed()
}
