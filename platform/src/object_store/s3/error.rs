//! Puts the failures of S3 requests into words.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::Error;
use crate::error::root_cause;
use crate::object_store::AwsAccess;

/// What a request was about.
pub(super) struct Target<'a> {
    pub access: &'a AwsAccess,
    pub bucket: &'a str,
    /// The object or prefix as `s3://bucket/key`.
    pub uri: String,
    /// `read`, `write`, `list` or `delete`.
    pub action: &'static str,
}

/// Turns a failed request into the error that says what to do.
pub(super) fn explain<E>(error: &SdkError<E, HttpResponse>, target: &Target<'_>) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let endpoint = target.access.server();
    match error {
        SdkError::TimeoutError(_) => Error::Unreachable { endpoint, reason: "it does not answer in time".to_owned() },
        SdkError::DispatchFailure(failure) => {
            if let Some(credentials) = find_credentials_error(error) {
                return target.access.explain_credentials(credentials);
            }
            let cause = root_cause(error);
            if failure.is_io() || failure.is_timeout() {
                return Error::Unreachable { endpoint, reason: cause };
            }
            other(target, cause, false)
        }
        SdkError::ResponseError(_) => other(target, not_s3(&endpoint, &root_cause(error)), true),
        SdkError::ServiceError(failure) => {
            let response = failure.raw();
            let region = response.headers().get("x-amz-bucket-region").map(str::to_owned);
            let answer =
                Answer { status: response.status().as_u16(), code: error.code(), message: error.message(), region };
            from_answer(&answer, target)
        }
        _ => other(target, root_cause(error), false),
    }
}

/// What the server answered.
struct Answer<'a> {
    status: u16,
    code: Option<&'a str>,
    message: Option<&'a str>,
    region: Option<String>,
}

fn from_answer(answer: &Answer<'_>, target: &Target<'_>) -> Error {
    let code = answer.code.unwrap_or("");
    let endpoint = target.access.server();
    let denied = |reason: &str, advice: &str| Error::Denied {
        uri: target.uri.clone(),
        reason: reason.to_owned(),
        advice: advice.to_owned(),
    };
    match (answer.status, code) {
        (_, "NoSuchBucket") => Error::BucketMissing { bucket: target.bucket.to_owned(), endpoint },
        (_, "NoSuchKey" | "NotFound") => Error::NotFound { uri: target.uri.clone() },
        (_, "InvalidAccessKeyId") => denied(
            "the server does not know the access key",
            "check AWS_ACCESS_KEY_ID (or AWS_PROFILE), and that AWS_ENDPOINT_URL names the right server",
        ),
        (_, "SignatureDoesNotMatch") => {
            denied("the secret key does not belong to the access key", "check AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)")
        }
        (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
            denied("the session token is expired or wrong", "get new credentials and set AWS_SESSION_TOKEN")
        }
        (_, "RequestTimeTooSkewed") => {
            denied("the clocks of this machine and the server differ too much", "set the clock of this machine")
        }
        (_, "AccessDenied" | "AllAccessDisabled" | "Forbidden") | (401 | 403, "") => denied(
            "the credentials have no right to do this",
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), and grant s3:ListBucket, s3:GetObject, \
             s3:PutObject and s3:DeleteObject",
        ),
        (301, _) | (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            let region = answer.region.as_deref().unwrap_or("the bucket's region");
            denied("the bucket is in another region", &format!("set AWS_REGION={region}"))
        }
        (507, _) | (_, "XMinioStorageFull" | "QuotaExceeded" | "InsufficientCapacity" | "InsufficientStorage") => {
            Error::Full { uri: target.uri.clone() }
        }
        (status, "") if status < 500 && status != 429 => {
            other(target, not_s3(&endpoint, &format!("status {status} without an S3 error")), false)
        }
        (status, _) => {
            let code = if code.is_empty() { format!("status {status}") } else { format!("{code}, status {status}") };
            let words = answer.message.map(|message| format!(": {}", message.trim_end_matches('.')));
            let transient = status >= 500 || status == 429 || status == 408 || code.starts_with("SlowDown");
            other(target, format!("{endpoint} answers {code}{}", words.unwrap_or_default()), transient)
        }
    }
}

fn not_s3(endpoint: &str, answer: &str) -> String {
    format!("{endpoint} does not answer as an S3 server does ({answer}), check AWS_ENDPOINT_URL")
}

fn other(target: &Target<'_>, reason: String, transient: bool) -> Error {
    Error::ObjectStore { action: target.action, uri: target.uri.clone(), reason, transient }
}

fn find_credentials_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a CredentialsError> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref::<CredentialsError>() {
            return Some(found);
        }
        cause = current.source();
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn explained(status: u16, code: &str, region: Option<&str>) -> Error {
        let access = AwsAccess::with_keys("http://s3.local:9000", "us-east-1", "key", "secret").unwrap();
        let target = Target { access: &access, bucket: "photos", uri: "s3://photos/a.jpg".to_owned(), action: "read" };
        let code = (!code.is_empty()).then_some(code);
        from_answer(&Answer { status, code, message: Some("Words."), region: region.map(str::to_owned) }, &target)
    }

    #[test]
    fn each_answer_has_its_advice() {
        let cases = [
            (404, "NoSuchBucket", "the bucket `photos` does not exist on http://s3.local:9000"),
            (404, "NoSuchKey", "s3://photos/a.jpg does not exist"),
            (403, "InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"),
            (403, "SignatureDoesNotMatch", "check AWS_SECRET_ACCESS_KEY"),
            (403, "ExpiredToken", "AWS_SESSION_TOKEN"),
            (403, "RequestTimeTooSkewed", "set the clock"),
            (403, "AccessDenied", "grant s3:ListBucket"),
            (403, "", "grant s3:ListBucket"),
            (507, "", "no space is left"),
            (503, "SlowDown", "answers SlowDown, status 503: Words"),
            (404, "", "does not answer as an S3 server does (status 404 without an S3 error), check AWS_ENDPOINT_URL"),
        ];
        for (status, code, expected) in cases {
            let text = explained(status, code, None).to_string();
            assert!(text.contains(expected), "{status} {code}: {text}");
        }
        assert!(explained(301, "", Some("eu-north-1")).to_string().ends_with("set AWS_REGION=eu-north-1"));
    }

    #[test]
    fn busy_servers_are_transient_and_refusals_are_not() {
        assert!(explained(503, "SlowDown", None).is_transient());
        assert!(explained(500, "InternalError", None).is_transient());
        assert!(explained(429, "", None).is_transient());
        assert!(!explained(403, "AccessDenied", None).is_transient());
        assert!(!explained(400, "InvalidRequest", None).is_transient());
        assert!(explained(404, "NoSuchKey", None).is_about_one_object());
        assert!(!explained(404, "NoSuchBucket", None).is_about_one_object());
    }
}
