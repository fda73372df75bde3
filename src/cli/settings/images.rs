//! Where images come from and how long they stay.

use std::path::PathBuf;

use super::set::{set, set_seconds};

/// Registries and the removal of unused images.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Images")]
pub struct Images {
    /// Plain-HTTP registries, such as 127.0.0.1:5000; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    pub insecure_registry: Vec<String>,

    /// File with registries' mirrors, authorities, credentials and policy, in the form of k3s's registries.yaml
    #[arg(long, value_name = "FILE")]
    pub registry_config: Option<PathBuf>,

    /// Seconds of a registry's silence after which it counts as gone [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub registry_timeout: Option<u64>,

    /// File with a CredentialProviderConfig: programs that know credentials for registries [default: none]
    #[arg(long, value_name = "FILE")]
    pub image_credential_provider_config: Option<PathBuf>,

    /// Folder of these programs
    #[arg(long, value_name = "FOLDER")]
    pub image_credential_provider_bin_dir: Option<PathBuf>,

    /// Of which images on this machine a pod has to show that it could pull them: NeverVerify, NeverVerifyPreloadedImages,
    /// NeverVerifyAllowlistedImages or AlwaysVerify [default: NeverVerifyPreloadedImages]
    #[arg(long, value_name = "POLICY")]
    pub image_pull_credentials_verification_policy: Option<String>,

    /// Images that NeverVerifyAllowlistedImages means, such as registry.example.com/team/*; may be given several times
    #[arg(long, value_name = "IMAGE", value_delimiter = ',')]
    pub preloaded_images_verification_allowlist: Vec<String>,

    /// Percent of the disk in use from which unused images are removed [default: 85]
    #[arg(long, value_name = "PERCENT")]
    pub image_gc_high_threshold: Option<u8>,

    /// Percent of the disk in use down to which they are removed [default: 80]
    #[arg(long, value_name = "PERCENT")]
    pub image_gc_low_threshold: Option<u8>,

    /// Seconds that an unused image stays at least [default: 120]
    #[arg(long, value_name = "SECONDS")]
    pub image_minimum_gc_age: Option<u64>,

    /// Seconds between two looks at the disk for unused images [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub image_gc_period: Option<u64>,
}

impl Images {
    pub(super) fn apply(self, images: &mut agent::ImageSettings) -> anyhow::Result<()> {
        let at_least_one = |seconds: Option<u64>| seconds.map(|seconds| seconds.max(1));
        images.insecure_registries = self.insecure_registry;
        images.registry_config = self.registry_config;
        set_seconds(&mut images.registry_silence, at_least_one(self.registry_timeout));
        let file = self.image_credential_provider_config;
        images.credential_providers = match (file, self.image_credential_provider_bin_dir) {
            (None, None) => None,
            (Some(file), Some(folder)) => Some((file, folder)),
            _ => anyhow::bail!(
                "--image-credential-provider-config and --image-credential-provider-bin-dir go together: give both"
            ),
        };
        let policy = self.image_pull_credentials_verification_policy;
        let list = self.preloaded_images_verification_allowlist;
        if policy.is_some() || !list.is_empty() {
            let policy = policy.as_deref().unwrap_or("NeverVerifyPreloadedImages");
            images.verification = agent::Verification::parse(policy, list)
                .map_err(|why| anyhow::anyhow!("--image-pull-credentials-verification-policy: {why}"))?;
        }
        set(&mut images.gc_high_percent, self.image_gc_high_threshold);
        set(&mut images.gc_low_percent, self.image_gc_low_threshold);
        set_seconds(&mut images.gc_age_min, self.image_minimum_gc_age);
        set_seconds(&mut images.gc_period, at_least_one(self.image_gc_period));
        Ok(())
    }
}
