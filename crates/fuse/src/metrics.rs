//! Counters of a FUSE mount.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// What the kernel asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Lookup,
    Getattr,
    Readlink,
    Open,
    Read,
    Release,
    Opendir,
    Readdir,
    Readdirplus,
    Releasedir,
    Statfs,
    Xattr,
    Write,
    Persist,
    Change,
    Other,
}

/// Operations with their label values, each at the index of its discriminant.
const OPS: [(Op, &str); 16] = [
    (Op::Lookup, "lookup"),
    (Op::Getattr, "getattr"),
    (Op::Readlink, "readlink"),
    (Op::Open, "open"),
    (Op::Read, "read"),
    (Op::Release, "release"),
    (Op::Opendir, "opendir"),
    (Op::Readdir, "readdir"),
    (Op::Readdirplus, "readdirplus"),
    (Op::Releasedir, "releasedir"),
    (Op::Statfs, "statfs"),
    (Op::Xattr, "xattr"),
    (Op::Write, "write"),
    (Op::Persist, "persist"),
    (Op::Change, "change"),
    (Op::Other, "other"),
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabel {
    op: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrnoLabel {
    errno: &'static str,
}

/// The counters. Those of the hot path are resolved once: counting is one atomic addition.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<OpLabel, Counter>,
    by_op: [Counter; OPS.len()],
    errors: Family<ErrnoLabel, Counter>,
    opens: Family<KindLabel, Counter>,
    pub(crate) passthrough_opens: Counter,
    pub(crate) cached_opens: Counter,
    pub(crate) bytes_read: Counter,
    pub(crate) bytes_written: Counter,
    pub(crate) invalidations: Counter,
    pub(crate) names_doubted: Counter,
    pub(crate) invalidations_dropped: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let requests = Family::<OpLabel, Counter>::default();
        let opens = Family::<KindLabel, Counter>::default();
        let by_op = OPS.map(|(_, op)| requests.get_or_create_owned(&OpLabel { op }));
        Self {
            requests,
            by_op,
            errors: Family::default(),
            passthrough_opens: opens.get_or_create_owned(&KindLabel { kind: "passthrough" }),
            cached_opens: opens.get_or_create_owned(&KindLabel { kind: "cached" }),
            opens,
            bytes_read: Counter::default(),
            bytes_written: Counter::default(),
            invalidations: Counter::default(),
            names_doubted: Counter::default(),
            invalidations_dropped: Counter::default(),
        }
    }

    /// Counts a request of the kernel.
    pub(crate) fn request(&self, op: Op) {
        self.by_op[op as usize].inc();
    }

    /// How many requests were counted.
    #[cfg(test)]
    pub(crate) fn requests(&self, op: Op) -> u64 {
        self.by_op[op as usize].get()
    }

    /// Counts a request answered with an error.
    pub(crate) fn error(&self, errno: &'static str) {
        self.errors.get_or_create(&ErrnoLabel { errno }).inc();
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("headpond_fuse_requests", "Requests of the kernel", self.requests.clone());
        registry.register("headpond_fuse_errors", "Requests answered with an error", self.errors.clone());
        registry.register(
            "headpond_fuse_opens",
            "Opens by what follows: passthrough (the kernel reads the local file by itself) or cached (through the daemon)",
            self.opens.clone(),
        );
        registry.register("headpond_fuse_read_bytes", "Bytes read through the daemon", self.bytes_read.clone());
        registry.register("headpond_fuse_write_bytes", "Bytes written", self.bytes_written.clone());
        registry.register(
            "headpond_fuse_invalidations",
            "Invalidations of listings sent to the kernel's caches",
            self.invalidations.clone(),
        );
        registry.register(
            "headpond_fuse_names_doubted",
            "Names that the kernel was made to ask for again",
            self.names_doubted.clone(),
        );
        registry.register(
            "headpond_fuse_invalidations_dropped",
            "Invalidations not sent because too many were waiting; the validity of what the kernel holds bounds the harm",
            self.invalidations_dropped.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_is_counted_under_its_own_name() {
        for (index, (op, _)) in OPS.into_iter().enumerate() {
            assert_eq!(op as usize, index);
        }
        let metrics = Metrics::new();
        metrics.request(Op::Readdirplus);
        let mut registry = Registry::default();
        metrics.passthrough_opens.inc();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes everything");
        assert!(text.contains("headpond_fuse_opens_total{kind=\"passthrough\"} 1"), "{text}");
        assert!(text.contains("headpond_fuse_requests_total{op=\"readdirplus\"} 1"), "{text}");
    }
}
