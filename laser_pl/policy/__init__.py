"""The policy: the LightningModule, and how right its responses are."""
