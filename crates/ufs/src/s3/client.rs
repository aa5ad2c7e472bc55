//! Options, environment and profile into an SDK client.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, Region,
    environment::EnvironmentVariableRegionProvider,
    meta::region::RegionProviderChain,
    profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider},
    provider_config::ProviderConfig,
};
use aws_sdk_s3::{
    Client,
    config::{
        Builder, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_types::{SdkConfig, service_config::ServiceConfigKey};

use crate::{Capabilities, CredentialSource, UfsError, options::Options};

/// The options of this driver.
pub(crate) const OPTIONS: &[&str] = &[
    "endpoint",
    "region",
    "path_style",
    "credentials",
    "profile",
    "conditional_put",
    "conditional_delete",
    "signed_payload",
];

/// How long a TCP and TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Idle connections kept: twice the parallel requests of one reader at full readahead, below usual server limits.
const IDLE_CONNECTIONS: usize = 64;

/// Before servers usually close an idle connection, so that a request rarely meets one just closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Where S3 compatible servers are when nobody says.
const FALLBACK_REGION: &str = "us-east-1";

/// A client and what is known of its endpoint.
pub(super) struct Target {
    pub(super) client: Client,
    /// Without a trailing slash; `None` for AWS.
    pub(super) endpoint: Option<String>,
    pub(super) capabilities: Capabilities,
    /// Whether the SHA-256 of a body is part of its signature; otherwise its CRC32C is.
    pub(super) signed_payload: bool,
}

impl Target {
    pub(super) async fn resolve(options: &Options<'_>, credentials: &dyn CredentialSource) -> Result<Self, UfsError> {
        let chosen = options.text("endpoint").map(|text| checked_endpoint(options, text)).transpose()?;
        let path_style = options.parse("path_style", "true or false")?;
        let conditional_put = options.parse("conditional_put", "true or false")?.unwrap_or(true);
        let conditional_delete = options.parse("conditional_delete", "true or false")?.unwrap_or(false);
        let signed_payload = options.parse("signed_payload", "true or false")?.unwrap_or(true);
        let credentials = options.text("credentials").map(|name| credentials.resolve(name)).transpose()?;
        let profile = options.text("profile");
        if let (Some(_), Some(name)) = (&credentials, profile) {
            return Err(options.bad("profile", name, "either this or the option credentials"));
        }

        let http = aws_smithy_http_client::Builder::new()
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let load = |region: Option<Region>| {
            let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
            if let Some(given) = &credentials {
                loader = loader.credentials_provider(aws_credential_types::Credentials::new(
                    &given.access_key_id,
                    &given.secret_access_key,
                    given.session_token.clone(),
                    None,
                    "headpond",
                ));
            }
            if let Some(name) = profile {
                // Before the environment, which the SDK would ask first.
                let http = ProviderConfig::default().with_http_client(http.clone());
                let keys = ProfileFileCredentialsProvider::builder().configure(&http).profile_name(name).build();
                loader = loader.profile_name(name).credentials_provider(keys);
            }
            if let Some(region) = region {
                loader = loader.region(region);
            }
            loader.load()
        };
        let in_profile = ProfileFileRegionProvider::builder();
        let in_profile = match profile {
            Some(name) => in_profile.profile_name(name),
            None => in_profile,
        };
        let (in_environment, in_profile) = (EnvironmentVariableRegionProvider::new(), in_profile.build());
        let given = options.text("region").map(|region| Region::new(region.to_owned()));
        let chain = RegionProviderChain::first_try(given);
        let chain = match profile {
            Some(_) => chain.or_else(in_profile).or_else(in_environment),
            None => chain.or_else(in_environment).or_else(in_profile),
        };
        let named = chain.region().await;
        let fallback = || Region::from_static(FALLBACK_REGION);
        let mut shared = load(Some(named.clone().unwrap_or_else(fallback))).await;
        let endpoint = match chosen {
            Some(endpoint) => Some(endpoint),
            None => configured_endpoint(&shared).map(|text| checked_endpoint(options, &text)).transpose()?,
        };
        // Only in AWS itself is the metadata service worth a question: where there is none it costs seconds.
        if named.is_none() && endpoint.is_none() {
            let found = load(None).await;
            if found.region().is_some() {
                shared = found;
            }
        }
        let mut config = Builder::from(&shared)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .force_path_style(path_style.unwrap_or(endpoint.is_some()));
        config.set_endpoint_url(endpoint.clone());
        Ok(Self {
            client: Client::from_conf(config.build()),
            endpoint,
            signed_payload,
            capabilities: Capabilities {
                conditional_put,
                conditional_copy: false,
                copy_through: conditional_put.then_some(super::copies::THROUGH),
                conditional_delete,
                max_deletes: 1000,
                ordered_listing: true,
                native_directories: false,
                native_rename: false,
                min_part_size: 5 << 20,
                max_parts: 10_000,
                max_put_size: 5 << 30,
                max_key: 1024,
            },
        })
    }
}

/// The endpoint that the environment or the profile names, found as the SDK finds it: it is part of the store's identity.
fn configured_endpoint(shared: &SdkConfig) -> Option<String> {
    let key =
        ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build().ok()?;
    shared
        .service_config()
        .and_then(|config| config.load_config(key))
        .or_else(|| shared.endpoint_url().map(str::to_owned))
}

/// Checks an endpoint and takes its trailing slashes off.
fn checked_endpoint(options: &Options<'_>, text: &str) -> Result<String, UfsError> {
    let form = "a URL like https://host:port, without user, query or bucket";
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host.map(|host| host.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && !host.contains(['@', '?', '#', ' ']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        // What stands before an @ may be a password: it is not repeated.
        _ => Err(options.bad("endpoint", text.rsplit('@').next().unwrap_or_default(), form)),
    }
}
