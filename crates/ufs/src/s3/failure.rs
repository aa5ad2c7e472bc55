//! What a failed request means.

use std::{error::Error, fmt::Write as _, time::Duration};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::http::Response;

use super::S3;
use crate::{Key, UfsError, UfsErrorKind};

impl S3 {
    /// Classifies the failure of a request on `key`.
    pub(super) fn failure<E>(&self, doing: &str, key: &Key, error: SdkError<E, Response>) -> UfsError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let subject = format!("cannot {doing} s3://{}/{key}", self.bucket);
        let Some(response) = error.raw_response() else {
            if has_cause::<CredentialsError>(&error) {
                let why = "no usable credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the option profile or credentials";
                return UfsError::new(UfsErrorKind::Refused, format!("{subject}: {why}")).with_source(detached(error));
            }
            return match error {
                SdkError::ConstructionFailure(_) => {
                    UfsError::new(UfsErrorKind::Invalid, format!("{subject}: the request cannot be built"))
                }
                _ => UfsError::new(
                    UfsErrorKind::Transient,
                    format!("{subject}: no answer from {}; check the option endpoint and the network", self.endpoint),
                ),
            }
            .with_source(detached(error));
        };
        let status = response.status().as_u16();
        let code = error.code().unwrap_or_default();
        let kind = kind_of(status, code);
        if kind == UfsErrorKind::NoSuchStore && code == "NoSuchBucket" {
            return self.no_such_bucket();
        }
        let mut message = format!("{subject}: {} answered {status}", self.endpoint);
        for detail in [error.code(), error.message()].into_iter().flatten() {
            write!(message, " {detail}").expect("writing to a string does not fail");
        }
        match (kind, code) {
            (UfsErrorKind::Refused, "RequestTimeTooSkewed") => message.push_str("; set the clock of this machine"),
            (UfsErrorKind::Refused, _) => message.push_str("; check the credentials and the policy of the bucket"),
            (UfsErrorKind::NoSuchStore, _) => match response.headers().get("x-amz-bucket-region") {
                Some(region) => write!(message, "; set the option region to {region}").expect("a string"),
                None => message.push_str("; check the options region and endpoint"),
            },
            _ => {}
        }
        let pause = response.headers().get("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        UfsError::new(kind, message).with_retry_after(pause)
    }

    pub(super) fn no_such_bucket(&self) -> UfsError {
        UfsError::new(
            UfsErrorKind::NoSuchStore,
            format!(
                "{} has no bucket s3://{}; create it or check its name and the option endpoint",
                self.endpoint, self.bucket
            ),
        )
    }
}

/// The kind of an answer by its status and S3's error code (empty where the body had none, as with HEAD).
fn kind_of(status: u16, code: &str) -> UfsErrorKind {
    match (status, code) {
        (_, "NoSuchBucket" | "PermanentRedirect" | "AuthorizationHeaderMalformed") => UfsErrorKind::NoSuchStore,
        (
            _,
            "SlowDown" | "SlowDownRead" | "SlowDownWrite" | "TooManyRequests" | "RequestLimitExceeded" | "Throttling",
        ) => UfsErrorKind::SlowDown,
        (_, "InternalError" | "RequestTimeout" | "OperationAborted" | "ConditionalRequestConflict") => {
            UfsErrorKind::Transient
        }
        // What arrived is not what was sent.
        (_, "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch") => UfsErrorKind::Transient,
        (_, "NotImplemented") => UfsErrorKind::Unsupported,
        // "NotFound" is what the SDK makes of a 404 to HEAD, which has no body.
        (404, "NoSuchKey" | "NotFound" | "NoSuchUpload" | "NoSuchVersion") => UfsErrorKind::NotFound,
        (401 | 403, _) => UfsErrorKind::Refused,
        (412, _) => UfsErrorKind::Precondition,
        (429 | 503, _) => UfsErrorKind::SlowDown,
        (408 | 409 | 500..=599, _) => UfsErrorKind::Transient,
        (301 | 307, _) => UfsErrorKind::NoSuchStore,
        (400 | 405 | 411 | 414 | 416, _) => UfsErrorKind::Invalid,
        // A 404 that does not say what was not found may come from anything on the way: it is no proof of absence.
        _ => UfsErrorKind::Protocol,
    }
}

/// The kind of what is said of one of the keys of a request, which has no status.
pub(super) fn kind_of_key(code: &str) -> UfsErrorKind {
    let status = match code {
        "NoSuchKey" | "NoSuchVersion" => 404,
        "AccessDenied" => 403,
        _ => 500,
    };
    kind_of(status, code)
}

fn has_cause<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<T>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The texts of an error's causes. The SDK's own errors hold requests with their signatures.
fn detached(error: impl Error + 'static) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").expect("writing to a string does not fail");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_status_and_code() {
        for (status, code, kind) in [
            (404, "NoSuchKey", UfsErrorKind::NotFound),
            (404, "NoSuchBucket", UfsErrorKind::NoSuchStore),
            (404, "NotFound", UfsErrorKind::NotFound),
            (404, "", UfsErrorKind::Protocol),
            (403, "AccessDenied", UfsErrorKind::Refused),
            (403, "", UfsErrorKind::Refused),
            (401, "", UfsErrorKind::Refused),
            (412, "PreconditionFailed", UfsErrorKind::Precondition),
            (503, "SlowDown", UfsErrorKind::SlowDown),
            (503, "", UfsErrorKind::SlowDown),
            (429, "", UfsErrorKind::SlowDown),
            (500, "InternalError", UfsErrorKind::Transient),
            (200, "InternalError", UfsErrorKind::Transient),
            (502, "", UfsErrorKind::Transient),
            (400, "InvalidArgument", UfsErrorKind::Invalid),
            (400, "RequestTimeout", UfsErrorKind::Transient),
            (400, "BadDigest", UfsErrorKind::Transient),
            (501, "NotImplemented", UfsErrorKind::Unsupported),
            (301, "PermanentRedirect", UfsErrorKind::NoSuchStore),
        ] {
            assert_eq!(kind_of(status, code), kind, "{status} {code}");
        }
    }
}
