"""From actions to the world: plan, agent, one file per target."""
