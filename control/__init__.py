"""The closed loop, pure: observations fold into the View; the tick turns a View into decisions, actions and alerts."""
