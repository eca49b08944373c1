//! What is nobody's business: the values of secrets stand as `***`.

/// What stands for a secret.
pub(crate) const MASK: &str = "***";

/// Header fields whose value is a secret (RFC 9110, RFC 6265, and what services use in their place).
const SECRET_FIELDS: [&str; 12] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "apikey",
    "x-auth-token",
    "x-access-token",
    "x-csrf-token",
    "x-amz-security-token",
    "x-vault-token",
];

/// Parameters of a query whose value is a secret.
const SECRET_PARAMETERS: [&str; 14] = [
    "password",
    "passwd",
    "pwd",
    "secret",
    "client_secret",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "api_key",
    "apikey",
    "key",
    "signature",
    "x-amz-signature",
];

/// A header field's value as it may be shown: the scheme of credentials and the names of cookies stay.
pub(crate) fn field(name: &str, value: String) -> String {
    if !SECRET_FIELDS.iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
        return value;
    }
    if name.eq_ignore_ascii_case("cookie") {
        let name = |cookie: &str| match cookie.split_once('=') {
            Some((name, _)) => format!("{}={MASK}", name.trim()),
            None => MASK.to_owned(),
        };
        return value.split(';').map(name).collect::<Vec<_>>().join("; ");
    }
    if name.eq_ignore_ascii_case("set-cookie") {
        let (cookie, attributes) = value.split_once(';').unwrap_or((&value, ""));
        let name = cookie.split_once('=').map_or("", |(name, _)| name.trim());
        let attributes = if attributes.is_empty() { String::new() } else { format!(";{attributes}") };
        return format!("{name}={MASK}{attributes}");
    }
    match value.split_once(' ') {
        Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
            format!("{scheme} {MASK}")
        }
        _ => MASK.to_owned(),
    }
}

/// A request's target as it may be shown: the values of secret parameters, and credentials before a host, do not stay.
pub(crate) fn target(target: &str) -> String {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut shown = match path.split_once("://").map(|(scheme, rest)| (scheme, rest.split_once('@'))) {
        Some((scheme, Some((credentials, rest)))) if !credentials.contains('/') => {
            format!("{scheme}://{MASK}@{rest}")
        }
        _ => path.to_owned(),
    };
    if let Some(query) = query {
        let parameter = |parameter: &str| match parameter.split_once('=') {
            Some((name, _)) if SECRET_PARAMETERS.iter().any(|secret| name.eq_ignore_ascii_case(secret)) => {
                format!("{name}={MASK}")
            }
            _ => parameter.to_owned(),
        };
        shown.push('?');
        shown.push_str(&query.split('&').map(parameter).collect::<Vec<_>>().join("&"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_headers_are_masked_and_nothing_else() {
        for (name, value, shown) in [
            ("Authorization", "Bearer eyJhbGciOi", "Bearer ***"),
            ("Authorization", "topsecret", "***"),
            ("Cookie", "sid=31d4; theme=dark", "sid=***; theme=***"),
            ("Set-Cookie", "sid=31d4; Path=/; HttpOnly", "sid=***; Path=/; HttpOnly"),
            ("X-API-Key", "abc", "***"),
            ("Accept", "text/html", "text/html"),
        ] {
            assert_eq!(field(name, value.to_owned()), shown, "{name}");
        }
    }

    #[test]
    fn secrets_of_targets_are_masked_and_nothing_else() {
        for (typed, shown) in [
            ("/a/b?c=d&token=x&e", "/a/b?c=d&token=***&e"),
            ("http://me:word@host/x", "http://***@host/x"),
            ("http://host/x@y", "http://host/x@y"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(target(typed), shown);
        }
    }
}
