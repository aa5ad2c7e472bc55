//! The counters of all mounts of a process, for Prometheus.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::{Counters, Op, Outcome};

/// Counters by mount. Clones share them. Those of a mount that is gone stay: it may come back, and counters must not fall.
#[derive(Clone, Debug, Default)]
pub struct Meters(Arc<Mutex<BTreeMap<String, Arc<Counters>>>>);

impl Meters {
    /// The counters of the store behind `mount`, its path in the namespace.
    #[must_use]
    pub fn of(&self, mount: &str) -> Arc<Counters> {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(mount.to_owned()).or_default())
    }

    fn all(&self) -> Vec<(String, Arc<Counters>)> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().map(|(mount, counters)| (mount.clone(), Arc::clone(counters))).collect()
    }
}

/// As `store_requests`, `store_retries`, `store_bytes…`, with labels for mount, operation and outcome.
impl Collector for Meters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let all = self.all();
        if all.is_empty() {
            return Ok(());
        }
        let help = "Requests to under stores, every try, by how they ended";
        let mut metric = encoder.encode_descriptor("store_requests", help, None, MetricType::Counter)?;
        for (mount, counters) in &all {
            for op in Op::ALL {
                for outcome in Outcome::all() {
                    let count = counters.requests(op, outcome);
                    if count > 0 {
                        let labels = [("mount", mount.as_str()), ("op", op.name()), ("outcome", outcome.name())];
                        ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
                    }
                }
            }
        }
        let each = |mut metric: MetricEncoder<'_>, count: fn(&Counters) -> &AtomicU64, counter: bool| {
            for (mount, counters) in &all {
                let value = count(counters).load(Relaxed);
                let labels = [("mount", mount.as_str())];
                if counter {
                    ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
                } else {
                    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric.encode_family(&labels)?)?;
                }
            }
            Ok::<_, fmt::Error>(())
        };
        let help = "Tries that followed a failed one";
        each(encoder.encode_descriptor("store_retries", help, None, MetricType::Counter)?, |of| &of.retries, true)?;
        let bytes = Some(&Unit::Bytes);
        let help = "Bytes of objects that came from under stores";
        each(
            encoder.encode_descriptor("store_received", help, bytes, MetricType::Counter)?,
            |of| &of.bytes_received,
            true,
        )?;
        let help = "Bytes of objects that went to under stores";
        each(encoder.encode_descriptor("store_sent", help, bytes, MetricType::Counter)?, |of| &of.bytes_sent, true)?;
        let help = "Requests to under stores under way";
        each(encoder.encode_descriptor("store_in_flight", help, None, MetricType::Gauge)?, |of| &of.in_flight, false)?;
        let help = "Requests to an under store that may be under way; falls while it says SlowDown";
        let limit: fn(&Counters) -> &AtomicU64 = |of| &of.request_limit;
        each(encoder.encode_descriptor("store_request_limit", help, None, MetricType::Gauge)?, limit, false)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;
    use crate::{Fault, Faulty, Key, Limit, Memory, Metered, Retry, RetryPolicy, UfsErrorKind, UnderStore};

    #[tokio::test(start_paused = true)]
    async fn tries_and_refusals_are_told_by_mount() {
        let meters = Meters::default();
        let counters = meters.of("/lake");
        let faulty = Faulty::new(Arc::new(Memory::named("meters")), 1);
        faulty.script(
            Op::Head,
            [Some(Fault::Error(UfsErrorKind::SlowDown)), Some(Fault::Error(UfsErrorKind::Transient))],
        );
        let metered = Metered::new(Arc::new(faulty), Arc::clone(&counters));
        let limited = Limit::new(Arc::new(metered), 64, None).counted(&counters);
        let retried = Retry::new(Arc::new(limited), RetryPolicy::default()).counted(&counters);
        retried.head(&Key::from("none")).await.expect_err("no such key");

        let mut registry = Registry::default();
        registry.sub_registry_with_prefix("headpond").register_collector(Box::new(meters));
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        for line in [
            "headpond_store_requests_total{mount=\"/lake\",op=\"head\",outcome=\"slow_down\"} 1\n",
            "headpond_store_requests_total{mount=\"/lake\",op=\"head\",outcome=\"transient\"} 1\n",
            "headpond_store_requests_total{mount=\"/lake\",op=\"head\",outcome=\"not_found\"} 1\n",
            "headpond_store_retries_total{mount=\"/lake\"} 2\n",
            "headpond_store_received_bytes_total{mount=\"/lake\"} 0\n",
            "headpond_store_in_flight{mount=\"/lake\"} 0\n",
            "headpond_store_request_limit{mount=\"/lake\"} 32\n",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }
}
