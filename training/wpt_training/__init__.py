"""World-to-Policy Transfer (arXiv 2511.20095): from scenes in the nuScenes format to a policy bundle."""
