//! The file that says which programs are asked for which images (`CredentialProviderConfig`). Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

/// The version of the protocol that new plugins speak.
pub(super) const VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";

/// Its versions, which differ in nothing but their name.
const VERSIONS: [&str; 3] = [
    VERSION,
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];

const CONFIG_VERSIONS: [&str; 3] = [
    "kubelet.config.k8s.io/v1",
    "kubelet.config.k8s.io/v1beta1",
    "kubelet.config.k8s.io/v1alpha1",
];

/// A program that is asked for credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Provider {
    /// The name of its file.
    pub(super) name: String,
    /// The places whose images it knows about.
    pub(super) match_images: Vec<String>,
    /// How long its answers hold if they do not say.
    pub(super) cached_for: Duration,
    /// The version of the protocol that it speaks.
    pub(super) version: String,
    pub(super) args: Vec<String>,
    /// Besides the agent's own environment.
    pub(super) env: Vec<(String, String)>,
    /// What it wants to know of service accounts; `None`: nothing.
    pub(super) tokens: Option<TokenAttributes>,
}

/// What a provider wants to know of the service account of the pod that wants an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenAttributes {
    /// For whom the token is meant.
    pub(super) audience: String,
    /// For whom its answers hold.
    pub(super) kept: Kept,
    /// It is not asked for pods that have none.
    pub(super) require_account: bool,
    /// Annotations without which it is not asked.
    pub(super) required_annotations: Vec<String>,
    /// Annotations that it is told where there are some.
    pub(super) optional_annotations: Vec<String>,
}

/// For whom an answer holds that was given for a token (`cacheType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Who has that very token.
    Token,
    /// Whatever has the service account.
    ServiceAccount,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    kind: String,
    api_version: String,
    #[serde(default)]
    providers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    name: String,
    #[serde(default)]
    match_images: Vec<String>,
    default_cache_duration: Option<String>,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    token_attributes: Option<Attributes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Attributes {
    #[serde(default)]
    service_account_token_audience: String,
    #[serde(default)]
    cache_type: String,
    require_service_account: Option<bool>,
    #[serde(default)]
    required_service_account_annotation_keys: Vec<String>,
    #[serde(default)]
    optional_service_account_annotation_keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    #[serde(default)]
    value: String,
}

/// Reads the file's text; YAML or JSON.
pub(super) fn parse(text: &str) -> Result<Vec<Provider>, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if file.kind != "CredentialProviderConfig" || !CONFIG_VERSIONS.contains(&file.api_version.as_str()) {
        return Err(format!(
            "{}, kind {} is not a CredentialProviderConfig of {}",
            file.api_version,
            file.kind,
            CONFIG_VERSIONS.join(", ")
        ));
    }
    if file.providers.is_empty() {
        return Err("providers: Required value: at least 1 item in plugins is required".to_owned());
    }
    let mut names = BTreeSet::new();
    for entry in &file.providers {
        if !names.insert(entry.name.clone()) {
            return Err(format!("providers.name: Duplicate value: {:?}", entry.name));
        }
    }
    file.providers.into_iter().map(provider).collect()
}

fn provider(mut entry: Entry) -> Result<Provider, String> {
    let given = entry.token_attributes.take();
    let Entry { name, .. } = &entry;
    // It becomes part of a path.
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', ' ', '\0']) {
        return Err(format!(
            "providers.name: Invalid value: {name:?}: provider name must be the name of a file, without '/' and ' '"
        ));
    }
    let named = |field: &str, what: &str| format!("provider {name:?}: {field}: {what}");
    let wrong = |field: &str, what: &str| Err(named(field, what));
    if !VERSIONS.contains(&entry.api_version.as_str()) {
        let what = format!(
            "Unsupported value: {:?}: supported values: {}",
            entry.api_version,
            VERSIONS.join(", ")
        );
        return wrong("apiVersion", &what);
    }
    if entry.match_images.is_empty() {
        return wrong(
            "matchImages",
            "Required value: at least 1 item in matchImages is required",
        );
    }
    if let Some(image) = entry
        .match_images
        .iter()
        .find(|i| i.is_empty() || i.contains("://"))
    {
        let what = format!("Invalid value: {image:?}: must be HOST[:PORT][/PATH], without a scheme");
        return wrong("matchImages", &what);
    }
    let Some(duration) = &entry.default_cache_duration else {
        return wrong(
            "defaultCacheDuration",
            "Required value: defaultCacheDuration is required",
        );
    };
    let Some(cached_for) = api::go::parse_duration(duration) else {
        let what = format!("Invalid value: {duration:?}: must be a duration such as 12h, not negative");
        return wrong("defaultCacheDuration", &what);
    };
    let tokens = match given {
        Some(_) if entry.api_version != VERSION => {
            let what = format!("Forbidden: tokenAttributes is only supported for {VERSION} API version");
            return wrong("tokenAttributes", &what);
        }
        Some(given) => Some(token_attributes(given).map_err(|(field, what)| named(&field, &what))?),
        None => None,
    };
    Ok(Provider {
        cached_for,
        tokens,
        name: entry.name,
        match_images: entry.match_images,
        version: entry.api_version,
        args: entry.args,
        env: entry.env.into_iter().map(|v| (v.name, v.value)).collect(),
    })
}

/// Field and what is wrong with it.
type Wrong = (String, String);

fn token_attributes(given: Attributes) -> Result<TokenAttributes, Wrong> {
    let wrong = |field: &str, what: String| Err((format!("tokenAttributes.{field}"), what));
    if given.service_account_token_audience.is_empty() {
        return wrong("serviceAccountTokenAudience", "Required value".to_owned());
    }
    let Some(require_account) = given.require_service_account else {
        return wrong("requireServiceAccount", "Required value".to_owned());
    };
    let required = given.required_service_account_annotation_keys;
    let optional = given.optional_service_account_annotation_keys;
    if !require_account && !required.is_empty() {
        let what = "Forbidden: requireServiceAccount cannot be false when \
                    requiredServiceAccountAnnotationKeys is set";
        return wrong("requiredServiceAccountAnnotationKeys", what.to_owned());
    }
    let keys = [
        ("requiredServiceAccountAnnotationKeys", &required),
        ("optionalServiceAccountAnnotationKeys", &optional),
    ];
    let mut seen = BTreeSet::new();
    for (field, key) in keys
        .iter()
        .flat_map(|(field, keys)| keys.iter().map(move |key| (*field, key)))
    {
        if let Some(why) = api::names::is_qualified_name(&key.to_lowercase()).first() {
            return wrong(field, format!("Invalid value: {key:?}: {why}"));
        }
        if !seen.insert(key) {
            return wrong(
                field,
                format!("Duplicate value: {key:?}: each key once, required or optional"),
            );
        }
    }
    let kept = match given.cache_type.as_str() {
        "Token" => Kept::Token,
        "ServiceAccount" => Kept::ServiceAccount,
        "" => {
            let what = "Required value: cacheType is required to be set when tokenAttributes is specified. \
                        Supported values are: ServiceAccount, Token";
            return wrong("cacheType", what.to_owned());
        }
        other => {
            let what =
                format!("Unsupported value: {other:?}: supported values: \"ServiceAccount\", \"Token\"");
            return wrong("cacheType", what);
        }
    };
    Ok(TokenAttributes {
        audience: given.service_account_token_audience,
        kept,
        require_account,
        required_annotations: required,
        optional_annotations: optional,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(providers: &str) -> Result<Vec<Provider>, String> {
        parse(&format!(
            "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders: {providers}"
        ))
    }

    #[test]
    fn a_whole_file() {
        let all = file(
            "
- name: ecr
  matchImages: ['*.dkr.ecr.*.amazonaws.com', 'r.io:5000/team']
  defaultCacheDuration: 12h30m
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  args: [get-credentials]
  env: [{name: PROFILE, value: edge}]
",
        );
        let provider = all.unwrap().remove(0);
        assert_eq!(provider.cached_for, Duration::from_secs(12 * 3600 + 1800));
        assert_eq!(provider.match_images.len(), 2);
        assert_eq!(provider.env, [("PROFILE".to_owned(), "edge".to_owned())]);
        assert_eq!(provider.version, VERSION);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let error = |text: &str| file(text).unwrap_err();
        let good = "name: a, matchImages: [r.io], defaultCacheDuration: 1h, apiVersion: credentialprovider.kubelet.k8s.io/v1";
        let without = |part: &str| error(&format!("[{{{}}}]", good.replace(part, "")));
        assert!(file(&format!("[{{{good}}}]")).is_ok());
        assert!(error(&format!("[{{{good}}}, {{{good}}}]")).contains("Duplicate value"));
        assert!(error("[]").contains("at least 1 item"));
        assert!(without("matchImages: [r.io], ").contains("matchImages"));
        assert!(without("defaultCacheDuration: 1h, ").contains("defaultCacheDuration is required"));
        assert!(without("apiVersion: credentialprovider.kubelet.k8s.io/v1").contains("Unsupported value"));
        let with = |from: &str, to: &str| error(&format!("[{{{}}}]", good.replace(from, to)));
        assert!(with("name: a", "name: ../a").contains("Invalid value"));
        assert!(with("1h", "-1h").contains("not negative"));
        assert!(with("[r.io]", "['https://r.io']").contains("without a scheme"));
        assert!(with("name: a", "tokenAttribute: {}, name: a").contains("tokenAttribute"));
    }

    #[test]
    fn what_a_provider_wants_to_know_of_accounts() {
        let good = "serviceAccountTokenAudience: r.io, cacheType: Token, requireServiceAccount: true, \
                    requiredServiceAccountAnnotationKeys: [r.io/role], optionalServiceAccountAnnotationKeys: [r.io/Extra]";
        let with = |version: &str, tokens: &str| {
            file(&format!(
                "[{{name: a, matchImages: [r.io], defaultCacheDuration: 1h, apiVersion: {version}, \
                 tokenAttributes: {{{tokens}}}}}]"
            ))
        };
        let read = with(VERSION, good).unwrap().remove(0).tokens.unwrap();
        assert_eq!((read.audience.as_str(), read.kept), ("r.io", Kept::Token));
        assert_eq!(read.required_annotations, ["r.io/role"]);
        let error = |from: &str, to: &str| with(VERSION, &good.replace(from, to)).unwrap_err();
        let audience = error("serviceAccountTokenAudience: r.io, ", "");
        assert!(
            audience.contains("tokenAttributes.serviceAccountTokenAudience: Required value"),
            "{audience}"
        );
        assert!(error("cacheType: Token, ", "").contains("cacheType is required"));
        assert!(error("cacheType: Token", "cacheType: Pod").contains("Unsupported value"));
        assert!(error("requireServiceAccount: true, ", "").contains("requireServiceAccount: Required"));
        assert!(
            error("requireServiceAccount: true", "requireServiceAccount: false").contains("cannot be false")
        );
        assert!(error("r.io/role", "'no key'").contains("Invalid value"));
        assert!(error("r.io/Extra", "r.io/role").contains("Duplicate value"));
        let old = with(VERSIONS[1], good).unwrap_err();
        assert!(
            old.contains("only supported for credentialprovider.kubelet.k8s.io/v1"),
            "{old}"
        );
    }

    #[test]
    fn other_kinds_are_refused() {
        assert!(
            parse("{apiVersion: v1, kind: Pod}")
                .unwrap_err()
                .contains("is not a CredentialProviderConfig")
        );
    }
}
