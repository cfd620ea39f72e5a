"""Speed, memory and numbers of biasaudio beside baselines that are measured in the same run."""
