//! Settings of people, tokens and certificates.

use super::Key;
use super::read::{is_http_url, path, role_mapping, state_address, whole};
use crate::serve::TrustedProxies;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "identity.enabled",
        default: "false",
        allowed: "true or false",
        help: "Whether servers ask who asks; without it they listen on loopback only.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.identity.enabled = match text {
                "true" => true,
                "false" => false,
                _ => return None,
            };
            Some(())
        },
    },
    Key {
        name: "identity.database",
        default: "",
        allowed: "sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE, or nothing",
        help: "The database of people and tokens; empty means that of `state.url`.",
        secret: true,
        alias: None,
        set: |config, text| {
            state_address(text)?;
            config.identity.database = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "identity.issuer",
        default: "safari",
        allowed: "a name or a URL",
        help: "Who our access tokens are of: `iss`.",
        secret: false,
        alias: None,
        set: |config, text| {
            (!text.is_empty()).then_some(())?;
            config.identity.issuer = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "identity.audience",
        default: "safari",
        allowed: "a name or a URL",
        help: "Whom our access tokens are for: `aud`.",
        secret: false,
        alias: None,
        set: |config, text| {
            (!text.is_empty()).then_some(())?;
            config.identity.audience = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "identity.requests_per_second",
        default: "500",
        allowed: "a whole number from 0 to 1_000_000",
        help: "Requests a second of one identity, and twice as many in a burst; 0 means no limit.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.identity.requests_per_second = whole(text, 0..=1_000_000)?;
            Some(())
        },
    },
    Key {
        name: "identity.trusted_proxies",
        default: "",
        allowed: "networks and addresses between commas, such as 10.0.0.0/8, or nothing",
        help: "Gateways whose X-Forwarded-For says who asks; without them, who connects is who asks.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.identity.trusted_proxies = TrustedProxies::parse(text)?;
            Some(())
        },
    },
    Key {
        name: "identity.oidc_issuer",
        default: "",
        allowed: "https://HOST/PATH, or nothing",
        help: "Another issuer whose access tokens are taken, found by OpenID Connect discovery; empty means none.",
        secret: false,
        alias: None,
        set: |config, text| {
            is_http_url(text).then_some(())?;
            config.identity.oidc_issuer = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "identity.oidc_audience",
        default: "safari",
        allowed: "a name or a URL",
        help: "What `aud` of its tokens must name.",
        secret: false,
        alias: None,
        set: |config, text| {
            (!text.is_empty()).then_some(())?;
            config.identity.oidc_audience = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "identity.oidc_roles_claim",
        default: "roles",
        allowed: "a claim, or claims with dots between them such as realm_access.roles",
        help: "Where its tokens say in which roles somebody is.",
        secret: false,
        alias: None,
        set: |config, text| {
            (!text.is_empty()).then_some(())?;
            config.identity.oidc_roles_claim = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "identity.oidc_roles",
        default: "",
        allowed: "a list such as wildlife-admins=admin,*=viewer, or nothing",
        help: "Its words for our roles, `*` for everybody; empty means that its words are ours.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.identity.oidc_roles = role_mapping(text)?;
            Some(())
        },
    },
    Key {
        name: "tls.cert",
        default: "",
        allowed: "the path of a file in PEM form, or nothing",
        help: "The certificate chain of all servers, read again when it changes; empty means no TLS.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.tls.cert = path(text);
            Some(())
        },
    },
    Key {
        name: "tls.key",
        default: "",
        allowed: "the path of a file in PEM form, or nothing",
        help: "The private key of the certificate.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.tls.key = path(text);
            Some(())
        },
    },
];
