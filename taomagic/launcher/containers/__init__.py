"""Running commands in containers: the Docker engine, its images, and the process that watches over a container."""
