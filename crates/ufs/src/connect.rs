//! From a URI to a store.

use std::{collections::BTreeMap, num::NonZeroU64, sync::Arc, time::Duration};

use crate::{
    Counters, CredentialSource, DEFAULT_REQUESTS, Limit, Local, Memory, Metered, Retry, RetryPolicy, Scheme, StoreUri,
    UfsError, UnderStore, options::Options,
};

/// The options that every store has.
const OPTIONS: &[&str] = &["max_requests", "max_bytes_per_second", "deadline_seconds"];

/// The store that `uri` names, with retries and limits, ready for use. Nothing is asked of a remote store yet.
///
/// Options of every store: `max_requests` in parallel (default 64; fewer while the store answers `SlowDown`), `max_bytes_per_second` (default unlimited), `deadline_seconds` of a
/// request with its retries (default 20). Options of S3: `endpoint`, `region`, `path_style` (default: true with an
/// endpoint), `credentials` (a name) or `profile` (one of AWS's files; default of both: the standard AWS environment and profile), `conditional_put` (default true: the store honours
/// If-Match and If-None-Match on writes), `conditional_delete` (default false), `signed_payload` (default true: the SHA-256 of what is sent is signed; with false
/// its CRC32C is, which costs both sides a third of that; stores have to know `x-amz-checksum-crc32c`, as AWS and MinIO do, and over plaintext
/// somebody on the way could change bytes and make the checksum fit).
///
/// # Errors
/// `Invalid` for an unknown or malformed option or an unknown credential name; `NoSuchStore` when a local directory does not exist.
pub async fn connect(
    uri: &StoreUri,
    options: &BTreeMap<String, String>,
    credentials: &dyn CredentialSource,
) -> Result<Arc<dyn UnderStore>, UfsError> {
    connect_metered(uri, options, credentials, Arc::default()).await
}

/// As [`connect`], counting every try in `counters`: [`crate::Meters`] has them by mount.
///
/// # Errors
/// As [`connect`].
pub async fn connect_metered(
    uri: &StoreUri,
    options: &BTreeMap<String, String>,
    credentials: &dyn CredentialSource,
    counters: Arc<Counters>,
) -> Result<Arc<dyn UnderStore>, UfsError> {
    let own = match uri.scheme() {
        #[cfg(feature = "s3")]
        Scheme::S3 => crate::s3::OPTIONS,
        _ => &[],
    };
    let options = Options::new(uri, options, &[own, OPTIONS])?;
    let requests = options.parse::<usize>("max_requests", "a number from 1")?.unwrap_or(DEFAULT_REQUESTS);
    let rate = options.parse::<NonZeroU64>("max_bytes_per_second", "a number of bytes from 1")?;
    let mut policy = RetryPolicy::default();
    if let Some(seconds) = options.parse::<NonZeroU64>("deadline_seconds", "a number of seconds from 1")? {
        policy.deadline = Duration::from_secs(seconds.get());
    }
    let driver = driver(uri, &options, credentials).await?;
    let metered = Metered::new(driver, Arc::clone(&counters));
    let limited = Limit::new(Arc::new(metered), requests, None).counted(&counters);
    let retried = Arc::new(Retry::new(Arc::new(limited), policy).counted(&counters));
    // Outside the retries: waiting for bandwidth is no silence of the store that a deadline should end.
    Ok(match rate {
        Some(rate) => Arc::new(Limit::new(retried, usize::MAX, Some(rate))),
        None => retried,
    })
}

async fn driver(
    uri: &StoreUri,
    options: &Options<'_>,
    credentials: &dyn CredentialSource,
) -> Result<Arc<dyn UnderStore>, UfsError> {
    Ok(match uri.scheme() {
        Scheme::Memory => Arc::new(Memory::named(uri.root())),
        Scheme::File => Arc::new(Local::open(&uri.directory()).await?),
        #[cfg(feature = "s3")]
        Scheme::S3 => Arc::new(crate::s3::S3::connect(uri.root(), options, credentials).await?),
        #[cfg(not(feature = "s3"))]
        Scheme::S3 => {
            let _ = (options, credentials);
            return Err(UfsError::new(
                crate::UfsErrorKind::Unsupported,
                format!("cannot reach {uri}: this build has no S3 driver, build with the feature s3"),
            ));
        }
    })
}
